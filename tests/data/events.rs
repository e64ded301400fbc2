//! Agreement in time, against sed_eval and by hand.

use serde::Deserialize;
use wmic::metrics::events::{Event, by_events, by_segments};

#[derive(Deserialize)]
struct Golden {
    classes: usize,
    duration: f64,
    truth: Vec<(usize, f64, f64)>,
    estimated: Vec<(usize, f64, f64)>,
    segments: Measures,
    events: Measures,
}

#[derive(Deserialize)]
struct Measures {
    f_measure: f64,
    precision: f64,
    recall: f64,
    error_rate: Option<f64>,
}

fn event(&(class, start, end): &(usize, f64, f64)) -> Event {
    Event { class, start, end }
}

fn assert_close(got: Option<f64>, want: f64) {
    assert!(got.is_some_and(|got| (got - want).abs() < 1e-12), "{got:?}, not {want}");
}

#[test]
fn as_sed_eval() {
    let g: Golden = serde_json::from_str(include_str!("../golden/events.json")).unwrap();
    let [truth, estimated] = [&g.truth, &g.estimated].map(|of| of.iter().map(event).collect::<Vec<_>>());
    let segments = by_segments(&estimated, &truth, g.classes, g.duration);
    let events = by_events(&estimated, &truth);
    for (got, want) in [(segments, &g.segments), (events, &g.events)] {
        assert_close(got.f1(), want.f_measure);
        assert_close(got.precision(), want.precision);
        assert_close(got.recall(), want.recall);
        want.error_rate.into_iter().for_each(|rate| assert_close(got.error_rate(), rate));
    }
}

#[test]
fn as_many_events_as_possible_match_each_one_other() {
    // The second true event fits both estimates, the first only the first one.
    let truth = [(0, 1.0, 2.0), (0, 1.15, 2.0)].map(|e| event(&e));
    let estimated = [(0, 1.0, 2.0), (0, 1.3, 2.0), (1, 1.0, 2.0)].map(|e| event(&e));
    for truth in [truth, [truth[1], truth[0]]] {
        let counts = by_events(&estimated, &truth);
        assert_eq!((counts.reference, counts.estimated, counts.correct), (2, 3, 2));
    }
}

#[test]
fn nothing_has_no_measures() {
    for counts in [by_segments(&[], &[], 3, 10.0), by_events(&[], &[])] {
        assert_eq!([counts.precision(), counts.recall(), counts.f1(), counts.error_rate()], [None; 4]);
    }
}
