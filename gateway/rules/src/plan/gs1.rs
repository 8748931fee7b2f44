//! GS1 identification keys and their check digit.
//!
//! GS1 General Specifications, section 7.9: from the right, digits are weighted 3, 1, 3, 1, ...; the
//! check digit brings the sum to a multiple of ten.

use toml::de::DeValue;

use super::fault::Problem;
use super::value::string;

/// Digits of an SSCC, with its check digit.
const SSCC_DIGITS: usize = 18;

/// Digits of a GRAI before its serial number, with the filler zero and the check digit.
const GRAI_DIGITS: usize = 14;

/// Longest serial number of a GRAI, in characters.
const GRAI_SERIAL_MAX: usize = 16;

/// Longest GIAI, in characters.
const GIAI_MAX: usize = 30;

/// A GS1 identification key of a logistic unit or asset, check digit verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gs1Key {
    /// Serial shipping container code, AI (00): 18 digits.
    Sscc(String),
    /// Global returnable asset identifier, AI (8003): 14 digits (leading 0, check digit last) and
    /// up to 16 characters of serial number.
    Grai(String),
    /// Global individual asset identifier, AI (8004): up to 30 characters, no check digit.
    Giai(String),
}

/// The check digit for `digits`, which come without it; `None` when one is no digit.
#[must_use]
pub fn check_digit(digits: &str) -> Option<u32> {
    let mut sum = 0;
    for (index, digit) in digits.chars().rev().enumerate() {
        let weight = if index % 2 == 0 { 3 } else { 1 };
        sum += weight * digit.to_digit(10)?;
    }
    Some((10 - sum % 10) % 10)
}

pub(super) fn sscc(value: &DeValue<'_>) -> Result<Gs1Key, Problem> {
    let text = string(value, "an SSCC of 18 digits")?;
    checked(text, SSCC_DIGITS, "SSCC")?;
    Ok(Gs1Key::Sscc(text.to_owned()))
}

pub(super) fn grai(value: &DeValue<'_>) -> Result<Gs1Key, Problem> {
    let allowed = "a GRAI: 0, 12 digits, the check digit and up to 16 characters of serial number";
    let text = string(value, allowed)?;
    let wrong = || Problem::new("not a GRAI", allowed);
    let (digits, serial) = text.split_at_checked(GRAI_DIGITS).ok_or_else(wrong)?;
    if !digits.starts_with('0') || serial.len() > GRAI_SERIAL_MAX || !is_alphanumeric(serial) {
        return Err(wrong());
    }
    checked(digits, GRAI_DIGITS, "GRAI")?;
    Ok(Gs1Key::Grai(text.to_owned()))
}

pub(super) fn giai(value: &DeValue<'_>) -> Result<Gs1Key, Problem> {
    let allowed = "a GIAI: company prefix and reference, 5 to 30 characters";
    let text = string(value, allowed)?;
    let prefixed = text.len() >= 5 && text.bytes().take(4).all(|byte| byte.is_ascii_digit());
    if !prefixed || text.len() > GIAI_MAX || !is_alphanumeric(text) {
        return Err(Problem::new("not a GIAI", allowed));
    }
    Ok(Gs1Key::Giai(text.to_owned()))
}

/// Letters, digits and the marks of GS1's character set 82.
fn is_alphanumeric(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!\"%&'()*+,-./:;<=>?_".contains(&byte))
}

fn checked(text: &str, length: usize, name: &str) -> Result<(), Problem> {
    let wrong = |problem: String| Problem::new(problem, format!("{length} digits of an {name}"));
    let digits = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(wrong("not the right number of digits".to_owned()));
    }
    let (body, last) = text.split_at(length - 1);
    match check_digit(body) {
        Some(check) if last == check.to_string() => Ok(()),
        check => {
            let check = check.map_or_else(String::new, |check| check.to_string());
            Err(wrong(format!(
                "check digit {last} is wrong, it must be {check}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_digits_hold() {
        // GS1's own examples: SSCC, GTIN-13 and GLN.
        assert_eq!(check_digit("37610425002123456"), Some(9));
        assert_eq!(check_digit("629104150021"), Some(3));
        assert_eq!(check_digit("061414100000"), Some(5));
        assert_eq!(check_digit("12a"), None);
    }

    #[test]
    fn a_wrong_check_digit_names_the_right_one() {
        let fault = checked("376104250021234568", SSCC_DIGITS, "SSCC").unwrap_err();
        assert_eq!(
            fault,
            Problem::new(
                "check digit 8 is wrong, it must be 9",
                "18 digits of an SSCC"
            )
        );
    }
}
