"""Segment-based and event-based measures by sed_eval on made-up events."""

import sed_eval
from formula import frac

CLASSES, DURATION = 4, 40.0


def events(salt: int, jitter: int | None) -> list[dict]:
    """Some events a class, in tenths of a second; with `jitter` most of them a little off, some missing."""
    found = []
    for k in range(CLASSES):
        u = frac((24,), salt + k)
        for i in range(8):
            start, length = round(5 * i + 2 * u[3 * i], 1), round(0.3 + 3 * u[3 * i + 1], 1)
            if u[3 * i + 2] < 0.5:
                continue
            if jitter is not None:
                v = frac((24,), jitter + k)
                if v[3 * i] < 0.2:
                    continue
                start, length = round(start + v[3 * i + 1] - 0.5, 1), round(length + v[3 * i + 2] - 0.5, 1)
                start, length = max(start, 0.0), max(length, 0.1)
            found.append({"event_label": f"c{k}", "event_onset": start, "event_offset": round(start + length, 1)})
    return found


def measures() -> dict:
    """The content of `events.json`."""
    labels = [f"c{k}" for k in range(CLASSES)]
    truth, estimated = events(80, None), events(80, 90) + events(100, None)[:3]
    segments = sed_eval.sound_event.SegmentBasedMetrics(labels, time_resolution=1.0)
    segments.evaluate(truth, estimated, evaluated_length_seconds=DURATION)
    whole = sed_eval.sound_event.EventBasedMetrics(labels, t_collar=0.2, percentage_of_length=0.5)
    whole.evaluate(truth, estimated)
    s, e = segments.results_overall_metrics(), whole.results_overall_metrics()
    plain = lambda of: [[int(x["event_label"][1:]), x["event_onset"], x["event_offset"]] for x in of]
    return {
        "classes": CLASSES, "duration": DURATION, "truth": plain(truth), "estimated": plain(estimated),
        "segments": {
            **{k: float(v) for k, v in s["f_measure"].items()},
            "error_rate": float(s["error_rate"]["error_rate"]),
        },
        "events": {k: float(v) for k, v in e["f_measure"].items()},
    }
