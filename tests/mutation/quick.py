"""A plugin of pytest for mutations: a failure is enough, and needs no smallest example."""

import hypothesis


def pytest_configure() -> None:
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", phases=phases)  # else as it stands
    hypothesis.settings.load_profile("mutation")
