"""The two dashboards: which panels there are, and in which order.

What is asked first comes first: is it up, does it answer, how fast, what does it use. Hosts and the
daemons themselves come last. Lines and colours that mark a limit are where the alerts stand.
"""

from llmstatsd.config import Config
from llmstatsd.kit import rows_calls, rows_errors, rows_machines
from llmstatsd.kit.frame import ERRORS, PERFORMANCE, dashboard, link_out, link_to
from llmstatsd.kit.limits import limits
from llmstatsd.kit.panels import Json, Row


def performance(config: Config) -> Json:
    """The dashboard "LLM Performance"."""
    marks = limits(config)
    rows = [
        Row("", rows_calls.at_a_glance(marks)),
        Row("Requests", rows_calls.requests(config, marks)),
        Row("Streaming", rows_calls.streaming()),
        Row("Tokens and cost", rows_calls.tokens()),
        Row("Model server", rows_calls.model_server(marks)),
        Row("Host", rows_machines.host()),
        Row("GPUs", rows_machines.gpus(), collapsed=True),
        Row("Daemon", rows_machines.daemon(marks)),
    ]
    return dashboard(PERFORMANCE, rows, [link_to(ERRORS), _runbooks(config)])


def errors(config: Config) -> Json:
    """The dashboard "LLM Errors"."""
    marks = limits(config)
    rows = [
        Row("", rows_errors.at_a_glance(config, marks)),
        Row("Errors", rows_errors.errors(marks)),
        Row("Fallbacks and rate limits", rows_errors.fallbacks(marks)),
        Row("Error budget and traffic", rows_errors.budget(config, marks)),
    ]
    return dashboard(ERRORS, rows, [link_to(PERFORMANCE), _runbooks(config)])


def _runbooks(config: Config) -> Json:
    return link_out("Runbooks", "What each alert means, and what to do.", config.kit.runbooks_url)
