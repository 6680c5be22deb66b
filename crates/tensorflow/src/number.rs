//! Numbers as TensorFlow prints them.

/// A number with as few significant digits as single precision needs, at most nine: six where these read back to the
/// same number.
pub(crate) fn short(value: f32) -> String {
    if !value.is_finite() {
        let text = if value.is_nan() { "nan" } else { "inf" };
        return if value.is_sign_negative() && !value.is_nan() { format!("-{text}") } else { text.to_owned() };
    }
    let six = general(f64::from(value), 6);
    if six.parse() == Ok(value) { six } else { general(f64::from(value), 9) }
}

/// A number with so many significant digits, as `%g` of C writes it.
pub(crate) fn general(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    trimmed(&format!("{value:.*}", (digits as i32 - 1 - exponent).max(0) as usize)).to_owned()
}

/// Without zeros behind the point.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A count in thousands, millions and so on, with two decimals: `23.87M`.
pub(crate) fn count(value: u64) -> String {
    if value < 1000 {
        return value.to_string();
    }
    let (mut value, mut units) = (value, ["k", "M", "B", "T"].iter());
    let mut unit = units.next();
    while value >= 1_000_000 {
        value /= 1000;
        unit = units.next();
    }
    match unit {
        Some(unit) => format!("{:.2}{unit}", value as f64 / 1000.0),
        None => format!("{}e15", value / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_but_exact() {
        let cases = [
            (5.970_948_7f32, "5.9709487"),
            (0.1, "0.1"),
            (0.0, "0"),
            (-12.56, "-12.56"),
            (1e-5, "1e-05"),
            (1e30, "1e+30"),
            (123_456.0, "123456"),
            (16_777_216.0, "16777216"),
            (f32::NEG_INFINITY, "-inf"),
            (f32::NAN, "nan"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn counts_have_two_decimals_and_a_unit() {
        let cases = [(0, "0"), (999, "999"), (1000, "1.00k"), (23_869_123, "23.87M"), (4_242_000_000, "4.24B")];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
    }
}
