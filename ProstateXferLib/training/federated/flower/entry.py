# SPDX-License-Identifier: Apache-2.0
"""What Flower loads by name from the app bundle (`bundle.py`): `entry:server` and `entry:site`."""

from typing import Any

# `flwr run` looks the names up in this list, as text.
__all__ = ["server", "site"]  # noqa: F822


def __getattr__(name: str) -> Any:
    # Made when asked for: the module can be imported where flwr is not installed.
    from ProstateXferLib.training.federated.flower.settings import (
        ServerSettings,
        SiteSettings,
        settings_of_environment,
    )

    if name == "server":
        from ProstateXferLib.training.federated.flower.server_app import server_app

        return server_app(settings_of_environment(ServerSettings))
    if name == "site":
        from ProstateXferLib.training.federated.flower.site_app import site_app

        return site_app(settings_of_environment(SiteSettings))
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
