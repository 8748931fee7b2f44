//! What the endpoint refuses: every case counted, the log bounded per sender and reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use protocol::key::DeviceId;

use crate::account::throttle::Throttle;
use crate::account::{Account, Reason};
use crate::clock::monotonic;
use crate::mqtt::refusal::{OnRefusal, Refusal};

/// Who is refused, as far as known, and why: ports are left out, since every connection has another.
type Whose = (String, Reason);

/// Count every refusal of the endpoint by its reason, and tell it.
pub(super) fn reported(account: Account) -> OnRefusal {
    let throttle = Mutex::new(Throttle::default());
    Arc::new(move |refusal: &Refusal| {
        account.count(refusal.reason);
        // Counts of lines: a panic while they were held left them whole enough to go on.
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        tell(&mut throttle, refusal, monotonic());
    })
}

fn tell(throttle: &mut Throttle<Whose>, refusal: &Refusal, now: Instant) {
    for (whose, withheld) in throttle.ended(now) {
        match whose {
            Some((who, reason)) => {
                tracing::warn!(who, reason = reason.as_str(), withheld, "lines withheld");
            }
            None => tracing::warn!(withheld, "lines withheld about further senders"),
        }
    }
    if let Some(withheld) = throttle.ask(&whose(refusal), now) {
        tracing::warn!(
            reason = refusal.reason.as_str(),
            device = refusal.device.as_ref().map(DeviceId::as_str),
            peer = %refusal.peer,
            topic = refusal.topic,
            withheld,
            "mqtt refused: {}",
            refusal.detail
        );
    }
}

fn whose(refusal: &Refusal) -> Whose {
    let who = match &refusal.device {
        Some(device) => device.to_string(),
        None => refusal.peer.ip().to_string(),
    };
    (who, refusal.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::throttle::{LINES_MAX, WINDOW};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(say: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let logging = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(logging, say);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn refusal(port: u16, device: Option<&str>) -> Refusal {
        Refusal {
            reason: Reason::Malformed,
            device: device.map(|device| device.parse().unwrap()),
            peer: ([192, 0, 2, 1], port).into(),
            topic: None,
            detail: "no packet".to_owned(),
        }
    }

    #[test]
    fn every_refusal_is_counted_and_a_flood_from_one_address_is_told_in_few_lines() {
        let account = Account::default();
        let report = reported(account.clone());
        let lines = logged(|| (0..1_000).for_each(|port| report(&refusal(port, None))));
        assert_eq!(account.tally().elsewhere[&Reason::Malformed], 1_000);
        assert_eq!(lines.len(), LINES_MAX as usize, "{lines:#?}");
    }

    #[test]
    fn one_loud_sender_does_not_hide_another_and_what_was_withheld_is_told_later() {
        let mut throttle = Throttle::default();
        let start = monotonic();
        let lines = logged(|| {
            for _ in 0..LINES_MAX + 7 {
                tell(&mut throttle, &refusal(1, None), start);
            }
            tell(&mut throttle, &refusal(2, Some("t-1")), start);
            tell(&mut throttle, &refusal(2, Some("t-1")), start + WINDOW);
        });
        let named = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!(named("\"device\":\"t-1\""), 2, "{lines:#?}");
        let withheld = "\"who\":\"192.0.2.1\",\"reason\":\"malformed\",\"withheld\":7";
        assert_eq!(named(withheld), 1, "{lines:#?}");
    }
}
