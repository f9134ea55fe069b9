"""What is compared: each arm is one way to spend the same votes, in the words of the launch form.

Settings of the product's own training code and nothing else. ONLINE is the recipe that all online
methods share; an ablation takes one thing out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One recipe. Votes are the same for every arm; `prompts` and `candidates` are a round's.

    online: answers come from the round's policy, and not from the base for ever.
    """

    name: str
    about: str = ""
    algorithm: str = "dpo"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    online: bool = True
    pairs_from: Literal["votes", "reward_model"] = "reward_model"
    prompts: int = 600
    candidates: int = 8
    temperature: float = 1.0
    other_temperature: float | None = 0.3
    selection: Literal["random", "contrast"] = "contrast"  # which two answers people compare
    reward_form: Literal["tuned", "probe"] = "probe"
    anchor: float = 10.0
    rule: str = "max_min"
    replay: Literal["none", "all"] = "none"
    learning_rate: float = 4e-3
    epochs: int = 3
    batch_size: int = 8
    reward_learning_rate: float = 1e-2
    reward_epochs: int = 2


ONLINE = Arm(name="Online DPO", about="the shared recipe with DPO's loss")
VOTED = Arm(
    name="DPO, voted pairs only",
    about="fresh answers each round, but only the pairs people saw train",
    pairs_from="votes",
    rule="voted",
    selection="random",  # there are but two
    candidates=2,
    other_temperature=None,
    anchor=0.0,
    replay="all",
    learning_rate=2e-3,
    epochs=2,
    batch_size=16,
)
OFFLINE = replace(VOTED, name="Offline DPO", about="all votes on answers of the base", online=False)
METHODS = (
    OFFLINE,
    ONLINE,
    replace(
        ONLINE,
        name="INPO",
        about="squared loss towards a Nash policy",
        algorithm="inpo",
        knobs={"eta": 0.05, "tau": 0.0167},
    ),
    replace(
        ONLINE, name="DNO", about="regression on win rates", algorithm="dno", knobs={"eta": 0.1}
    ),
    replace(ONLINE, name="SELM", about="DPO with optimism", algorithm="selm"),
    replace(
        ONLINE,
        name="XPO",
        about="one answer of the policy against one of the base",
        algorithm="xpo",
        candidates=2,
        selection="random",
        other_temperature=None,  # its two policies are what differs, as the launch form says
    ),
    replace(
        ONLINE,
        name="SPPO",
        about="each answer to a target of its own",
        algorithm="sppo",
        knobs={"eta": 20.0},
    ),
    replace(
        ONLINE,
        name="SuperHF",
        about="the best of eight answers as plain text",
        algorithm="superhf",
        knobs={"kl": 0.0, "reduction": "sum"},
        anchor=0.0,
    ),
)
QUICK = (OFFLINE, ONLINE)
ABLATION = (
    VOTED,
    replace(ONLINE, name="Base draws only", about="the recipe without going online", online=False),
    replace(ONLINE, name="Tuned reward", about="a trained copy, no probe", reward_form="tuned"),
    replace(ONLINE, name="One temperature", about="all at 1", other_temperature=None),
    replace(ONLINE, name="Any two answers", about="no contrasts", selection="random"),
    replace(
        ONLINE, name="Two candidates", about="instead of eight", candidates=2, selection="random"
    ),
    replace(ONLINE, name="Voted prompts only", about="200 a round, not 600", prompts=200),
    replace(ONLINE, name="No anchor", about="DPO's loss alone", anchor=0.0, learning_rate=2e-3),
    replace(ONLINE, name="With replay", about="all rounds' pairs again", replay="all"),
)
# A taste without a utility, from votes alone: a reward model could not hold it. All three train on
# the same number of fresh pairs a round; beta 0.6 is where offline DPO's fixed point is least bad.
ONE_SIDED = replace(OFFLINE, replay="none")
CYCLIC = (
    replace(ONE_SIDED, about="beta 0.1"),
    replace(ONE_SIDED, name="Offline DPO, beta 0.6", about="held close", knobs={"beta": 0.6}),
    replace(
        ONE_SIDED,
        name="INPO",
        about="eta and tau 0.2",
        online=True,
        algorithm="inpo",
        knobs={"eta": 0.2, "tau": 0.2},
    ),
)
