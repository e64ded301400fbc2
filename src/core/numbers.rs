//! Numbers formatted for people: three significant digits and a prefix.

/// `value` with three significant digits and an SI prefix before `unit`: `si(1.234e12, "FLOP/s")` is "1.23 TFLOP/s".
pub fn si(value: f64, unit: &str) -> String {
    const PREFIXES: [(f64, &str); 8] =
        [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")];
    // 999.6 reads "1.00 k", so a prefix starts where rounding to three digits reaches it.
    let fits = |scale: f64| value.abs() >= scale * 0.9995;
    let (scale, prefix) = match PREFIXES.iter().find(|p| fits(p.0)) {
        Some(&found) => found,
        None => (1.0, ""),
    };
    format!("{} {prefix}{unit}", three_digits(value / scale))
}

/// So many things per second: "12.3 k clips/s", "0.51 clips/s".
pub fn rate(per_second: f64, things: &str) -> String {
    match per_second < 1.0 {
        true => format!("{} {things}/s", three_digits(per_second)),
        false => format!("{} {things}/s", si(per_second, "").trim_end()),
    }
}

/// A duration in seconds: "12.3 µs", "1.20 ms", "3.40 s", "2 min 05 s", "1 h 02 min".
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return si(seconds, "s");
    }
    let s = seconds.round() as u64;
    if s < 3600 { format!("{} min {:02} s", s / 60, s % 60) } else { format!("{} h {:02} min", s / 3600, s / 60 % 60) }
}

/// A position in a recording of `length` seconds, to `step`: "2 s", "0.25 s"; "1:05" in one of a minute, "1:01:05" in
/// one of an hour.
pub fn clock(seconds: f64, length: f64, step: f64) -> String {
    let s = seconds.round() as u64;
    match length {
        l if l >= 3600.0 => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
        l if l >= 60.0 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{seconds:.*} s", (-step.log10()).ceil().clamp(0.0, 3.0) as usize),
    }
}

/// A number of bytes in binary units: "512 B", "1.50 MiB".
pub fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{n} B") } else { format!("{} {unit}", three_digits(value)) }
}

/// A whole number in groups of three digits: "986 772".
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// So many things: "1 clip", "986 772 clips".
pub fn of(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(n as u64), if n == 1 { one } else { many })
}

/// A fraction as percentage: "42 %", "3.1 %".
pub fn percent(fraction: f64) -> String {
    let p = fraction * 100.0;
    if p.abs() < 9.95 { format!("{p:.1} %") } else { format!("{p:.0} %") }
}

/// How many times: "2.31×", "24.0×".
pub fn times(factor: f64) -> String {
    format!("{}×", three_digits(factor))
}

/// A metric between 0 and 1 to three decimals without the leading zero: ".912", "1.000"; "-" when undefined.
pub fn score(value: Option<f64>) -> String {
    match value {
        Some(v) => format!("{v:.3}").replacen("0.", ".", usize::from(v.abs() < 0.9995)),
        None => "-".into(),
    }
}

/// A difference of metrics as [`score`], always with a sign: "+.012", "−.004"; "-" when undefined.
pub fn signed(value: Option<f64>) -> String {
    match value {
        Some(v) => format!("{}{}", if v < 0.0 { '−' } else { '+' }, score(Some(v.abs()))),
        None => "-".into(),
    }
}

/// The p-value of a test: ".023", "< .001".
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0005 { "< .001".into() } else { score(Some(p)) }
}

/// Three significant digits, at most four decimals.
pub fn three_digits(v: f64) -> String {
    match v.abs() {
        a if a >= 99.95 || a == 0.0 => format!("{v:.0}"),
        a if a >= 9.995 => format!("{v:.1}"),
        a if a >= 0.0995 => format!("{v:.2}"),
        a if a >= 0.00995 => format!("{v:.3}"),
        _ => format!("{v:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted() {
        assert_eq!([si(1.234e12, "FLOP/s"), si(999.6e9, "B/s")], ["1.23 TFLOP/s", "1.00 TB/s"]);
        assert_eq!([si(0.0, "s"), si(5e-12, "s"), si(-2e3, "B")], ["0 s", "0.0000 s", "-2.00 kB"]);
        assert_eq!([rate(12_345.0, "clips"), rate(0.51, "patches")], ["12.3 k clips/s", "0.51 patches/s"]);
        assert_eq!([duration(12.34e-6), duration(0.0012), duration(59.96)], ["12.3 µs", "1.20 ms", "60.0 s"]);
        assert_eq!([duration(125.0), duration(3725.0)], ["2 min 05 s", "1 h 02 min"]);
        assert_eq!([clock(2.0, 10.0, 1.0), clock(0.25, 0.5, 0.05)], ["2 s", "0.25 s"]);
        assert_eq!([clock(65.0, 185.0, 30.0), clock(65.0, 3600.0, 60.0)], ["1:05", "0:01:05"]);
        assert_eq!([bytes(512), bytes(1000), bytes(3 << 19)], ["512 B", "0.98 KiB", "1.50 MiB"]);
        assert_eq!([count(7), count(986_772), count(1_000_000)], ["7", "986 772", "1 000 000"]);
        assert_eq!([percent(0.031), percent(0.42), percent(1.0)], ["3.1 %", "42 %", "100 %"]);
        assert_eq!([times(2.312), times(310.4), times(0.0401)], ["2.31×", "310×", "0.040×"]);
        assert_eq!([score(Some(0.9123)), score(Some(1.0)), score(None)], [".912", "1.000", "-"]);
        assert_eq!([signed(Some(0.0123)), signed(Some(-0.004)), signed(None)], ["+.012", "−.004", "-"]);
        assert_eq!([p_value(0.0231), p_value(0.0004), p_value(1.0)], [".023", "< .001", "1.000"]);
        assert_eq!([score(Some(0.9996)), score(Some(0.0)), score(Some(-0.02))], ["1.000", ".000", "-.020"]);
    }
}
