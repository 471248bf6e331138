"""Panels on the calls: how many, how fast, what they use, and where their time goes."""

from llmstatsd.config import Config
from llmstatsd.kit.frame import ERRORS, panel_link
from llmstatsd.kit.limits import Limits
from llmstatsd.kit.panels import AREAS, Column, Panel, Target, graph, heatmap, stat, table
from llmstatsd.kit.promql import bound, number
from llmstatsd.kit.queries import (
    MODEL,
    RANGE,
    RATE_INTERVAL,
    error_ratio,
    increase,
    p95,
    quantile,
    rate,
    ratio,
)
from llmstatsd.kit.recording import QUANTILES


def at_a_glance(limits: Limits) -> list[Panel]:
    """Is there traffic, does it succeed, is it fast."""
    return [
        stat(
            "Requests per second",
            "Finished attempts, failed ones too.",
            rate("llm_request_total"),
            unit="reqps",
        ),
        stat(
            "Error ratio",
            "Share of the requests that fail, of every operation.",
            error_ratio(),
            unit="percentunit",
            limits=[limits["HighErrorRatio"]],
            link=panel_link(ERRORS, ERRORS.title),
        ),
        stat(
            "p95 response time",
            "One in 20 requests takes longer.",
            p95("llm_request_duration_seconds"),
            unit="s",
            limits=[limits["HighModelLatency"]],
        ),
        stat(
            "Tokens per second",
            "Tokens of prompts and answers, of every operation.",
            rate("llm_tokens_total"),
            unit="short",
        ),
    ]


def requests(config: Config, limits: Limits) -> list[Panel]:
    """How many and how fast; a logarithmic axis shows 100 ms and a minute in one graph."""
    durations = "llm_request_duration_seconds"
    slow = config.thresholds.latency_seconds
    fast = rate(f"{durations}_bucket", "model", only=f'le="{bound(slow)}"')
    return [
        graph(
            "Request Rate",
            "Finished attempts per second by model, failed ones too.",
            Target(rate("llm_request_total", "model"), "{{model}}"),
            unit="reqps",
            style=AREAS,
        ),
        heatmap(
            "Response Time",
            "How many requests took how long: two bands are two kinds of requests, or of answers.",
            increase(f"{durations}_bucket", "le"),
            unit="s",
            interval="1m",
        ),
        graph(
            "Response time quantiles",
            "Half of all requests, 19 in 20 and 99 in 100 take less.",
            *(
                Target(quantile(rank, rate(f"{durations}_bucket", "le")), name)
                for name, rank in QUANTILES.items()
            ),
            unit="s",
            log=True,
            limits=[limits["HighModelLatency"]],
        ),
        graph(
            "p95 response time by model",
            "One in 20 requests of a model takes longer.",
            Target(p95(durations, "model"), "{{model}}"),
            unit="s",
            log=True,
            limits=[limits["HighModelLatency"]],
        ),
        graph(
            "Slow requests",
            f"Share of a model's requests that take longer than {number(slow)} s.",
            Target(f"1 - {ratio(fast, rate(f'{durations}_count', 'model'))}", "{{model}}"),
            unit="percentunit",
        ),
        graph(
            "Requests by operation",
            "Finished attempts per second by operation, failed ones too.",
            Target(rate("llm_request_total", "operation"), "{{operation}}"),
            unit="reqps",
            style=AREAS,
        ),
    ]


def streaming() -> list[Panel]:
    """What somebody feels who reads an answer while it comes."""
    return [
        graph(
            "Time to first token",
            "One in 20 answers of a model begins later.",
            Target(p95("llm_time_to_first_token_seconds", "model"), "{{model}}"),
            unit="s",
            log=True,
            missing="Nothing sent to llm_time_to_first_token_seconds",
        ),
        graph(
            "Time per output token",
            "One in 20 answers of a model comes at a slower pace.",
            Target(p95("llm_time_per_output_token_seconds", "model"), "{{model}}"),
            unit="s",
            log=True,
            missing="Nothing sent to llm_time_per_output_token_seconds",
        ),
    ]


def tokens() -> list[Panel]:
    """What the providers count and bill."""
    prompt, cached = rate("llm_prompt_tokens_total"), rate("llm_cached_tokens_total")
    return [
        graph(
            "Token Usage",
            "Tokens per second of prompts and answers by model.",
            Target(rate("llm_tokens_total", "model"), "{{model}}"),
            unit="short",
            axis="tokens per second",
            style=AREAS,
        ),
        graph(
            "Tokens by kind",
            "What the tokens per second are: prompts, prompts from the provider's cache, answers.",
            Target(f"{prompt} - ({cached} or 0 * {prompt})", "prompt"),
            Target(cached, "prompt, cached"),
            Target(rate("llm_completion_tokens_total"), "completion"),
            unit="short",
            axis="tokens per second",
            style=AREAS,
            missing="Nothing sent to llm_prompt_tokens_total and llm_completion_tokens_total",
        ),
        graph(
            "Tokens per request",
            "Mean of a model, of every operation: prompts that grow are seen here first.",
            Target(
                ratio(
                    rate("llm_tokens_total", "model"),
                    rate("llm_request_total", "model", narrowed_by=MODEL),
                ),
                "{{model}}",
            ),
            unit="short",
            axis="tokens",
            width=8,
        ),
        graph(
            "Cached prompt tokens",
            "Share of a model's prompt tokens that the provider read from its cache.",
            Target(
                ratio(
                    rate("llm_cached_tokens_total", "model"),
                    rate("llm_prompt_tokens_total", "model"),
                ),
                "{{model}}",
            ),
            unit="percentunit",
            ceiling=1,
            missing="Nothing sent to llm_cached_tokens_total",
            width=8,
        ),
        graph(
            "Cost per hour",
            "US dollars per hour by model, at the present rate.",
            Target(f"3600 * {rate('llm_cost_dollars_total', 'model')}", "{{model}}"),
            unit="currencyUSD",
            style=AREAS,
            missing="Nothing sent to llm_cost_dollars_total",
            width=8,
        ),
    ]


def model_server(limits: Limits) -> list[Panel]:
    """What a server such as Ollama reports of its own work."""
    means = _mean_times("", RATE_INTERVAL)
    by_model = _mean_times("model", RANGE)
    calls = increase("llm_total_duration_seconds_count", "model", RANGE)
    return [
        graph(
            "Time breakdown",
            "Where the time of a mean call goes, as the model server reports it: loading the"
            " model, evaluating the prompt, and the rest, which is mostly the answer.",
            *(Target(expr, part) for part, expr in means.items() if part != "Total"),
            unit="s",
            style=AREAS,
        ),
        table(
            "Time breakdown by model",
            "The same by model over the whole time range, the slowest first.",
            "model",
            Column("Calls", calls, "locale", decimals=0),
            *(Column(part, expr, "s") for part, expr in by_model.items()),
            sorted_by="Total",
            width=12,
        ),
        graph(
            "Model load",
            "One in 20 loads of a model takes longer.",
            Target(p95("llm_model_load_duration_seconds", "model"), "{{model}}"),
            unit="s",
            log=True,
            limits=[limits["SlowModelLoad"]],
            interval="5m",  # loads are rare
        ),
        graph(
            "Prompt evaluation",
            "One in 20 prompts of a model takes longer to evaluate.",
            Target(p95("llm_prompt_eval_duration_seconds", "model"), "{{model}}"),
            unit="s",
            log=True,
        ),
    ]


def _mean_times(by: str, window: str) -> dict[str, str]:
    """Parts of a mean call and their sum; a call that loads nothing counts as a load of 0 s."""

    def seconds(part: str) -> str:
        return increase(f"llm_{part}_duration_seconds_sum", by, window)

    whole = seconds("total")
    load, prompt = (f"({seconds(part)} or 0 * {whole})" for part in ("model_load", "prompt_eval"))
    parts = {
        "Load": load,
        "Prompt evaluation": prompt,
        "Rest": f"clamp_min({whole} - {load} - {prompt}, 0)",
        "Total": whole,
    }
    calls = increase("llm_total_duration_seconds_count", by, window)
    return {part: ratio(expr, calls) for part, expr in parts.items()}
