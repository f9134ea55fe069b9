"""What a researcher decides before a session: its form. What could go wrong later and is known now
is refused here, in a sentence."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Count, Q

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Prompt, PromptSet
from plumbline.evolve.models import Evolution
from plumbline.judges.models import Endpoint, JudgeVersion
from plumbline.loop.fields import number, real
from plumbline.policies import serving
from plumbline.policies.models import Deployment

PLAIN = (
    *("name", "task", "overlap", "arms", "chosen_prompts", "spare_prompts", "hidden_prompts"),
    *("pool_size", "temperature", "max_tokens", "generations_wanted", "seed"),
    *("fresh_prompts", "least_win_rate", "matching"),
)


class EvolutionForm(forms.Form):
    """`save` creates the session; the loop begins it."""

    name = forms.CharField(
        label="Name", max_length=80, error_messages={"required": "The session needs a name."}
    )
    task = forms.CharField(
        label="What is wanted",
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="In words, as you would tell a colleague. The writer of programs reads it, and "
        "so do the people who rank.",
        error_messages={"required": "Say what is wanted; the writer has nothing else to go by."},
    )
    prompt_set = forms.ChoiceField(
        label="Prompt set",
        help_text="Prompts to rank on are drawn from its training part, hidden ones from what is "
        "held out.",
        error_messages={"required": "Choose a prompt set."},
    )
    writer = forms.ChoiceField(
        label="Writer",
        help_text="Who writes reward programs. The seeded writer needs no model: it moves weights "
        "of a dozen surface features, for trying the loop out.",
    )
    rubric = forms.ChoiceField(
        label="Rubric scored by",
        required=False,
        help_text="Lets programs ask what code cannot see. Each answer of the pool is scored once "
        "for each new rubric.",
    )
    rater = forms.ChoiceField(
        label="Ranked by",
        required=False,
        help_text="People, through the usual queue; or a judge, whose ballots are kept apart from "
        "people’s everywhere.",
    )
    overlap = number("Rankings of each prompt", "By different raters.", least=1, most=20)
    generations_wanted = number(
        "Generations",
        "At most. A session ends earlier when the good program stays the same for two, or when "
        "agreement on hidden pairs falls twice.",
        least=1,
        most=50,
    )
    arms = number("Programs a generation", "Each is asked for another emphasis.", least=3, most=8)
    chosen_prompts = number("Prompts ranked", "In every generation.", least=1, most=50)
    spare_prompts = number(
        "Spare prompts",
        "Asked three at a time when rankings do not tell the two best programs apart.",
        least=0,
        most=50,
    )
    hidden_prompts = number(
        "Hidden prompts",
        "One pair each is compared once. The writer never hears what came of it.",
        least=0,
        most=500,
    )
    fresh_prompts = number(
        "Fresh prompts",
        "No generation samples or sees them. At the end the winner's picks among fresh answers to "
        "them are compared blind. 0 for no confirmation.",
        least=0,
        most=500,
    )
    incumbent = forms.ChoiceField(
        label="Confirmed against",
        required=False,
        help_text="Whose picks among the same fresh answers the winner's must beat.",
    )
    least_win_rate = real(
        "Win rate to clear",
        "The lower end of the win rate's 95 % interval must lie above it for the winner to be "
        "confirmed; without that it judges nothing.",
        least=0,
        most=0.95,
    )
    matching = forms.ChoiceField(
        label="Cards of like length",
        choices=Evolution.Matching,
        help_text="The longest card of a prompt is then at most a quarter longer than the "
        "shortest, so that people do not rank length. A program goes by length where Spearman's "
        "correlation of its score with length is beyond 0.6.",
    )
    pool_size = number(
        "Answers to each prompt", "Drawn once; every program picks from them.", least=2, most=64
    )
    temperature = real("Temperature", "Higher draws more varied answers.", least=0, most=2)
    max_tokens = number("Longest answer", "Longer answers are cut.", least=1, most=32_768)
    seed = number("Seed", "Of prompts, answers and the seeded writer.", least=0, most=2**31 - 1)

    GROUPS = (
        ("What is wanted", ("name", "task", "prompt_set")),
        ("Who writes and who ranks", ("writer", "rubric", "rater", "overlap", "matching")),
        ("Before the winner may judge", ("fresh_prompts", "incumbent", "least_win_rate")),
        (
            "How much",
            (
                *("generations_wanted", "arms", "chosen_prompts", "spare_prompts"),
                *("hidden_prompts", "pool_size", "temperature", "max_tokens", "seed"),
            ),
        ),
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        usual = {
            field.name: field.get_default()
            for field in Evolution._meta.concrete_fields
            if field.name in PLAIN and field.has_default()
        }
        kwargs["initial"] = {**usual, **kwargs.get("initial", {})}
        super().__init__(*args, **kwargs)
        self.project = project
        train = Count("prompts", filter=Q(prompts__split=Prompt.Split.TRAIN))
        heldout = Count("prompts", filter=Q(prompts__split=Prompt.Split.HELDOUT))
        sets = PromptSet.objects.filter(project=project).annotate(train=train, heldout=heldout)
        self.sets = {str(one.pk): one for one in sets.order_by("-created_at", "-pk")}
        endpoints = Endpoint.objects.filter(project=project, retired_at=None)
        self.endpoints = {str(one.pk): one for one in endpoints}
        versions = JudgeVersion.objects.filter(
            judge__project=project, judge__retired_at=None
        ).select_related("judge")
        self.raters = {str(one.pk): one for one in versions.order_by("judge__name", "-number")}
        named = [(pk, f"{one.name} ({one.model})") for pk, one in self.endpoints.items()]
        self._choose(
            "prompt_set",
            [
                (pk, f"{one.name}: {one.train} to train on, {one.heldout} held out")
                for pk, one in self.sets.items()
            ],
        )
        self._choose("writer", [("", "The seeded writer, without a model"), *named])
        self.fields["writer"].required = False
        self._choose("rubric", [("", "Nobody: programs are code alone"), *named])
        judges = [(pk, f"The judge {one}") for pk, one in self.raters.items()]
        self._choose("rater", [("", "People"), *judges])
        self._choose("incumbent", [("", "An answer drawn at random"), *judges])

    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        return [(title, [self[name] for name in names]) for title, names in self.GROUPS]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        name = data.get("name")
        if name and Evolution.objects.filter(project=self.project, name=name).exists():
            self.add_error("name", f"There is a session called {name} already.")
        found = self.sets.get(data.get("prompt_set", ""))
        sizes = [data.get(f"{one}_prompts") for one in ("chosen", "spare", "hidden", "fresh")]
        if found is not None and None not in sizes:
            chosen, spare, hidden, fresh = (int(one or 0) for one in sizes)
            train, heldout = found.train, found.heldout
            if train < chosen + spare or train + heldout < chosen + spare + hidden + fresh:
                self.add_error(
                    "prompt_set",
                    f"{found.name} has {train} training and {heldout} held-out prompts; "
                    f"{chosen + spare} to rank on, {hidden} to hide and {fresh} to keep fresh are "
                    "wanted.",
                )
        if data.get("temperature") == 0:
            self.add_error("temperature", "At temperature 0 all answers to a prompt are the same.")
        return data

    def save(self, user: User) -> Evolution:
        data = self.cleaned_data
        writer = self.endpoints.get(data["writer"])
        served = Deployment.objects.filter(project=self.project, alias=serving.CURRENT).first()
        return Evolution.objects.create(
            project=self.project,
            created_by=user,
            prompt_set=self.sets[data["prompt_set"]],
            policy=served.policy if served else serving.base_policy(self.project),
            writer=Evolution.Writer.ENDPOINT if writer else Evolution.Writer.SEEDED,
            writer_endpoint=writer,
            rubric_endpoint=self.endpoints.get(data["rubric"]),
            rater=self.raters.get(data["rater"]),
            incumbent=self.raters.get(data["incumbent"]),
            **{name: data[name] for name in PLAIN},
        )

    def _choose(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices
