"""Runs mini-swe-agent's own loop, configuration and shell on a task: mini.py FOLDER TASK."""

import os
import sys

from minisweagent.agents.default import DefaultAgent
from minisweagent.config import get_config_from_spec
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel

folder, task = sys.argv[1:3]
config = get_config_from_spec("mini.yaml")
config["agent"].pop("mode", None)
config["model"].pop("model_kwargs", None)
model = LitellmModel(
    model_name="openai/fake",
    model_kwargs={"api_base": os.environ["OPENAI_BASE_URL"], "api_key": "dummy", "drop_params": True},
    cost_tracking="ignore_errors",
    observation_template=config["model"]["observation_template"],
)
agent = DefaultAgent(model, LocalEnvironment(cwd=folder, **config["environment"]), **config["agent"])
ended = agent.run(task)
sys.exit(0 if ended.get("exit_status") == "Submitted" else f"ended with {ended}")
