"""Prefect flows, thin: they run the steps and show what is going on; the only place for Prefect.

Importing this package sets what Prefect does where nobody has said otherwise, so it has to come
before ``import prefect``: no telemetry (nothing here needs a network), and patience with a server
whose first start makes a database.
"""

import os

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
