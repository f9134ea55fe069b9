"""What a loop of ICPL (arXiv:2410.17233) computes between its jobs: prompts for a writer of reward
programs, arms ranked by people, reports, calibration. Pure, so that the platform, the tests and the
bench run the same loop."""
