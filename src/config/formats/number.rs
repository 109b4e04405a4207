//! Durations, sizes and shares, in both directions.

use std::time::Duration;

use super::super::problem::Complaint;
use crate::token::policy::Budget;

const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// One or more numbers, each with its unit: `250ms`, `30s`, `1m30s`.
pub fn duration(text: &str) -> Result<Duration, Complaint> {
    let wrong = || Complaint::new("not a duration").hint("write a number and a unit: `250ms`, `30s`, `5m`, `1h`");
    if is_number(text) && text != "0" {
        return Err(Complaint::new("a duration needs a unit").hint("write `250ms`, `30s`, `5m` or `1h`"));
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0_u64;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number.checked_mul(*factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        if after.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = after;
    }
}

/// The shortest way to write it: the largest unit that leaves nothing over.
pub fn duration_text(duration: Duration) -> String {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match DURATION_UNITS.iter().find(|(unit, factor)| total > 0 && total % factor == 0 && *unit != "d") {
        Some((unit, factor)) => format!("{}{unit}", total / factor),
        None => String::from("0s"),
    }
}

/// So many in any window of that length: `60/1h`.
pub fn rate(text: &str) -> Result<Budget, Complaint> {
    // A window of more than a month would be remembered over more restarts than anybody counts.
    const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);
    let wrong = || Complaint::new("not a rate").hint("write a number, a slash and a duration: `60/1h`, `10/8h`");
    let (requests, window) = text.split_once('/').ok_or_else(wrong)?;
    let requests = Some(requests).filter(|text| is_number(text)).and_then(|text| text.parse().ok());
    let requests = requests.filter(|requests| (1..=100_000).contains(requests)).ok_or_else(wrong)?;
    let window = duration(window).map_err(|_| wrong())?;
    if window < Duration::from_secs(1) || window > LONGEST {
        return Err(Complaint::new("the window of a rate is from `1s` to `31d`"));
    }
    Ok(Budget { requests, window })
}

pub fn rate_text(budget: Budget) -> String {
    format!("{}/{}", budget.requests, duration_text(budget.window))
}

pub fn size(text: &str) -> Result<usize, Complaint> {
    let wrong = || Complaint::new("not a size").hint("write bytes, or a number and a unit: `512`, `64KiB`, `1MiB`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim_start_matches(' ') {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

pub fn size_text(size: usize) -> String {
    match SIZE_UNITS.iter().find(|(unit, factor)| size > 0 && size.is_multiple_of(*factor) && *unit != "B") {
        Some((unit, factor)) => format!("{}{unit}", size / factor),
        None => size.to_string(),
    }
}

/// Permission bits of a file that its owner may read and write: without that not even bearerd's own probe gets in, and
/// what a decimal number would mean is mostly told so. Bits above 0777 have no meaning for a socket.
pub fn mode(text: &str) -> Result<u32, Complaint> {
    let wrong = || Complaint::new("not permissions").hint("write them as `chmod` takes them: `0600`, `0660`, `0666`");
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if !(3..=4).contains(&digits.len()) || !digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        return Err(wrong());
    }
    let mode = u32::from_str_radix(digits, 8).map_err(|_| wrong())?;
    if mode & 0o600 != 0o600 || mode > 0o777 {
        return Err(Complaint::new("out of range: from 0600 to 0777, with both rights for the owner"));
    }
    Ok(mode)
}

pub fn mode_text(mode: u32) -> String {
    format!("{mode:04o}")
}

/// A share of one.
pub fn percent(text: &str) -> Result<f64, Complaint> {
    let number = text.strip_suffix('%').filter(|number| is_number(number.replacen('.', "", 1).as_str()));
    number
        .and_then(|number| number.parse::<f64>().ok())
        .map(|number| number / 100.0)
        .ok_or_else(|| Complaint::new("not a share").hint("write a number and a percent sign: `25%`"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        let budget = rate("60/1h").unwrap();
        assert_eq!((budget.requests, budget.window), (60, Duration::from_secs(3_600)));
        assert_eq!(rate_text(budget), "60/1h");
        for text in ["", "60", "60/", "/1h", "0/1h", "-1/1h", "60/1", "60/0s", "1.5/1h", "60/40d", "60/h", "60 / 1h"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_and_write() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1d", 86_400_000),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in
            ["", "s", "30", "30 s", "-1s", "1.5s", "1S", "1w", "1s2", "99999999999999999999s", "9999999999999999999h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["250ms", "30s", "5m", "1h", "90s", "1500ms", "0s"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("64KiB", 65_536), ("64 KiB", 65_536), ("1MiB", 1 << 20), ("7B", 7)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "KiB", "64kb", "64K", "-1", "1.5MiB", "99999999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!((size_text(65_536), size_text(1000), size_text(0)), ("64KiB".into(), "1000".into(), "0".into()));
    }

    #[test]
    fn permissions_are_octal_whatever_they_look_like() {
        for (text, bits) in [("0600", 0o600), ("660", 0o660), ("0o777", 0o777), ("0606", 0o606)] {
            assert_eq!(mode(text).unwrap(), bits, "{text}");
        }
        assert_eq!(mode_text(0o660), "0660");
        // 432, 384 and 438 are 0660, 0600 and 0666 in decimal.
        for text in ["", "0", "66", "432", "384", "438", "0066", "0400", "1777", "00660", "0x1b0", "rw-", "-660", "0o"]
        {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_written_with_a_percent_sign() {
        assert!((percent("25%").unwrap() - 0.25).abs() < 1e-12);
        assert!((percent("12.5%").unwrap() - 0.125).abs() < 1e-12);
        for text in ["", "%", "25", "0.25", "-1%", "1e1%", ".%", "1.2.3%", "inf%", "NaN%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
