"""Panels on what the calls run on: hosts, GPUs, and the daemons themselves."""

from typing import Final

from llmstatsd.kit.limits import Limits
from llmstatsd.kit.panels import AREAS, BARS, LINES, Json, Panel, Target, graph, stat
from llmstatsd.kit.queries import INSTANCE, most, rate, ratio, total

_NO_GPUS: Final = "No llmstatsd_gpu_* series: see docs/how-to/watch-gpus.md"


def host() -> list[Panel]:
    """The machines on which daemons run, and usually the applications as well."""
    cpu = "llmstatsd_host_cpu_seconds_total"
    waiting = rate(cpu, "instance", only='mode=~"idle|iowait"')
    return [
        graph(
            "CPU",
            "Share of all cores of the host that is busy.",
            Target(f"1 - {ratio(waiting, rate(cpu, 'instance'))}", "{{instance}}"),
            unit="percentunit",
            ceiling=1,
            width=8,
        ),
        _used("Memory", "memory", "available", "Share that cannot be had without swapping."),
        _used("Disk", "disk", "free", "Used share of the file system of `host.disk_path`."),
        graph(
            "Network",
            "Bytes per second on all interfaces but loopback.",
            Target(
                rate("llmstatsd_host_network_receive_bytes_total", "instance"),
                "{{instance}} received",
            ),
            Target(
                rate("llmstatsd_host_network_transmit_bytes_total", "instance"),
                "{{instance}} sent",
            ),
            unit="Bps",
        ),
        graph(
            "Load",
            "Tasks that run or wait for a core or a disk; more than there are cores means a queue.",
            Target(total("llmstatsd_host_load1", "instance"), "{{instance}} 1 minute"),
            Target(total("llmstatsd_host_load15", "instance"), "{{instance}} 15 minutes"),
            Target(rate(cpu, "instance"), "{{instance}} cores"),
            unit="short",
            axis="tasks",
        ),
    ]


def _used(title: str, what: str, left: str, description: str) -> Panel:
    free, size = (
        total(f"llmstatsd_host_{what}_{part}_bytes", "instance") for part in (left, "total")
    )
    return graph(
        title,
        description,
        Target(f"1 - {ratio(free, size)}", "{{instance}}"),
        unit="percentunit",
        ceiling=1,
        width=8,
    )


def gpus() -> list[Panel]:
    """The cards of these machines; their row is collapsed, because most hosts have none."""
    used, size = (_of_gpu(f"memory_{part}_bytes") for part in ("used", "total"))
    energy = rate("llmstatsd_gpu_energy_joules_total", "instance")
    tokens = rate("llm_tokens_total", "instance", narrowed_by=INSTANCE)
    return [
        _gpu(
            "GPU utilisation",
            "Share of the time in which anything was running on the GPU.",
            _of_gpu("utilization_ratio"),
            unit="percentunit",
            ceiling=1,
        ),
        _gpu(
            "GPU memory",
            "Used share; a model that does not fit is loaded again and again.",
            ratio(used, size),
            unit="percentunit",
            ceiling=1,
        ),
        _gpu(
            "GPU temperature",
            "A GPU that is too hot slows down.",
            _of_gpu("temperature_celsius"),
            unit="celsius",
        ),
        _gpu(
            "GPU power",
            "What each card draws.",
            _of_gpu("power_watts"),
            unit="watt",
            style=AREAS,
            width=12,
        ),
        graph(
            "GPU energy per 1,000 tokens",
            "Energy of all cards of a host by the tokens of every model that its daemon was told.",
            Target(f"1000 * {ratio(energy, tokens)}", "{{instance}}"),
            unit="joule",
            missing=_NO_GPUS,
        ),
    ]


def _gpu(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str,
    style: Json = LINES,
    ceiling: float | None = None,
    width: int = 8,
) -> Panel:
    """A line per card, with its name."""
    card = most("llmstatsd_gpu_info", "instance, gpu, name")
    return graph(
        title,
        description,
        Target(
            f"{expr} * on (instance, gpu) group_left (name) {card}",
            "{{instance}} {{gpu}} {{name}}",
        ),
        unit=unit,
        style=style,
        ceiling=ceiling,
        missing=_NO_GPUS,
        width=width,
    )


def _of_gpu(figure: str) -> str:
    return total(f"llmstatsd_gpu_{figure}", "instance, gpu")


def daemon(limits: Limits) -> list[Panel]:
    """The ladder from datagrams to series, what each step left out, and what it costs."""
    return [*_intake(limits), *_series(limits), *_process(limits)]


def _intake(limits: Limits) -> list[Panel]:
    taken, kernel, queue = (
        f"llmstatsd_{what}datagrams_total" for what in ("", "kernel_dropped_", "queue_dropped_")
    )
    in_queue = rate(queue, "instance")
    lost = f"({rate(kernel, 'instance')} or 0 * {in_queue}) + {in_queue}"
    return [
        graph(
            "Datagrams",
            "What came to the socket, and what of it was lost before it was read.",
            Target(rate(taken), "taken in"),
            Target(rate(kernel), "lost, receive buffer full"),
            Target(rate(queue), "lost in the daemon"),
            unit="pps",
            style=AREAS,
        ),
        graph(
            "Lines",
            "What became of the lines in the datagrams.",
            Target(rate("llmstatsd_accepted_lines_total"), "accepted"),
            Target(rate("llmstatsd_refused_lines_total"), "refused"),
            Target(rate("llmstatsd_set_aside_lines_total"), "set aside"),
            unit="cps",
            axis="lines per second",
            style=AREAS,
        ),
        graph(
            "Lost datagrams",
            "Share of the datagrams to a host that is lost before it is read.",
            Target(ratio(f"({lost})", f"{lost} + {rate(taken, 'instance')}"), "{{instance}}"),
            unit="percentunit",
            limits=[limits["DatagramsDropped"]],
            width=8,
        ),
        graph(
            "Refused lines",
            "Share of all lines that does not count, by reason. The alert looks at each host.",
            Target(
                _share("llmstatsd_refused_lines_total", "reason", "llmstatsd_lines_total"),
                "{{reason}}",
            ),
            unit="percentunit",
            style=BARS,
            limits=[limits["LinesRefused"]],
            width=8,
        ),
    ]


def _series(limits: Limits) -> list[Panel]:
    return [
        graph(
            "Folded samples",
            "Share of all samples that a budget put into the label value `other`, by series."
            " The alert looks at each host.",
            Target(
                _share("llmstatsd_folded_samples_total", "series", "llmstatsd_samples_total"),
                "{{series}}",
            ),
            unit="percentunit",
            style=BARS,
            limits=[limits["CardinalityFolded"]],
            width=8,
        ),
        graph(
            "Label sets",
            "Most label sets that a series holds on any host, and its budget.",
            Target(most("llmstatsd_label_sets", "series"), "{{series}}"),
            Target(most("llmstatsd_label_sets_limit"), "limit"),
            unit="short",
            log=True,
            width=8,
        ),
        graph(
            "Exposition lines",
            "Lines of `/metrics` that count against the budget, and the budget.",
            Target(total("llmstatsd_exposition_lines", "instance"), "{{instance}}"),
            Target(most("llmstatsd_exposition_lines_limit"), "limit"),
            unit="short",
            log=True,
            width=8,
        ),
    ]


def _process(limits: Limits) -> list[Panel]:
    return [
        graph(
            "Scrape duration",
            "How long a scrape takes, as Prometheus sees it and as the daemon does.",
            Target(most("scrape_duration_seconds", "instance"), "{{instance}} by Prometheus"),
            Target(
                most("llmstatsd_last_scrape_duration_seconds", "instance"),
                "{{instance}} by the daemon",
            ),
            unit="s",
            limits=[limits["ScrapeSlow"]],
            width=8,
        ),
        stat(
            "Daemons up",
            "How many of the daemons answered the last scrape.",
            total("up"),
            unit="none",
            width=8,
        ),
        graph(
            "Daemon memory",
            "Resident memory of the process.",
            Target(total("process_resident_memory_bytes", "instance"), "{{instance}}"),
            unit="bytes",
            width=8,
        ),
        graph(
            "Daemon CPU",
            "Cores that the process uses; at 100 % it has no time left.",
            Target(rate("process_cpu_seconds_total", "instance"), "{{instance}}"),
            unit="percentunit",
            width=8,
        ),
    ]


def _share(part: str, label: str, whole: str) -> str:
    return f"{rate(part, label)} / on () group_left () ({rate(whole)} > 0)"
