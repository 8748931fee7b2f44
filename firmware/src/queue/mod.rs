//! Records between being made and being confirmed.
//!
//! Two queues: alarms in one, everything else in the other. A full queue evicts its own oldest, never
//! the other's, so a storm of readings cannot push an alarm out. What is evicted is accounted for in a
//! [`loss`] record. Only a confirmation frees a record.

pub mod counter;
pub mod loss;
pub mod ring;

use protocol::batch::{BatchEncoder, BatchHeader};
use protocol::key::{RecordKey, Seq};
use protocol::record::{Loss, Numbered, Record};
use protocol::units::UptimeMs;

use crate::port::{MESSAGE_MAX_BYTES, Token};
use counter::Counter;
use loss::{Losses, REASONS};
use ring::Ring;

/// Most records in one batch; fewer when they do not fit a message.
pub const BATCH_RECORDS_MAX: usize = protocol::batch::RECORDS_MAX;

/// Records the routine queue holds: at one reading a minute, four hours without a gateway. With 96
/// bytes a record, 24 KB.
pub const ROUTINE_RECORDS: usize = 256;

/// Most routine records in flight: three of the largest batches. The rest of the queue is what can be
/// evicted, so a slow link never makes the newest reading the one that goes.
pub const ROUTINE_IN_FLIGHT_MAX: usize = 192;

/// Records the alarm queue holds: alarms are aggregated, so this is several bad days.
pub const ALARM_RECORDS: usize = 32;

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Alarms, published at once.
    Alarms,
    /// All others, published in batches.
    Routine,
}

/// Where records went; `made = confirmed + lost + pending` holds at every moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Numbered in this boot.
    pub made: u64,
    /// Confirmed by the gateway.
    pub confirmed: u64,
    /// Evicted to make room.
    pub lost: u64,
    /// Queued or in flight.
    pub pending: u64,
}

/// What a tracker counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// All records: readings, alarms, and the device's statements about itself.
    pub records: Account,
    /// Readings alone: `made` is the number of samples.
    pub readings: Account,
}

/// Both queues and their account.
#[derive(Debug, Default)]
pub struct Queues {
    alarms: Ring<ALARM_RECORDS>,
    routine: Ring<ROUTINE_RECORDS>,
    losses: Losses,
    /// Without `pending`, which is counted.
    counters: Counters,
}

impl Queues {
    /// Empty queues.
    #[must_use]
    pub const fn new() -> Self {
        const NOTHING: Account = Account {
            made: 0,
            confirmed: 0,
            lost: 0,
            pending: 0,
        };
        Self {
            alarms: Ring::new(),
            routine: Ring::new(),
            losses: Losses::new(),
            counters: Counters {
                records: NOTHING,
                readings: NOTHING,
            },
        }
    }

    /// Queue a record; the oldest of its queue goes when there is no room.
    pub fn push(&mut self, numbered: Numbered) {
        self.counters.count(&numbered, |account| &mut account.made);
        let evicted = match numbered.record {
            Record::Alarm(_) => self.alarms.push(numbered),
            _ => self.routine.push(numbered),
        };
        self.lose(evicted);
    }

    /// The message arrived: free what it carried.
    pub fn confirm(&mut self, token: Token) {
        let counters = &mut self.counters;
        let mut count =
            |numbered: &Numbered| counters.count(numbered, |account| &mut account.confirmed);
        self.alarms.confirm(token, &mut count);
        self.routine.confirm(token, &mut count);
    }

    /// No message in flight will be confirmed any more: everything goes back.
    pub fn release(&mut self) {
        self.alarms.release();
        self.routine.release();
    }

    /// Load up to `most` records of a queue into a message and encode it; nothing when the queue has
    /// nothing waiting. Loss records go first, for they explain what the others miss.
    pub fn batch(
        &mut self,
        lane: Lane,
        token: Token,
        most: usize,
        counter: &Counter,
    ) -> Option<heapless::Vec<u8, MESSAGE_MAX_BYTES>> {
        let mut most = most.min(BATCH_RECORDS_MAX);
        while most > 0 {
            self.load(lane, token, most);
            // The header tells the oldest record outside the message, so what did not fit changes it.
            match self.encode(token, counter) {
                Ok(payload) => return payload,
                Err(fitting) => {
                    self.alarms.release_message(token);
                    self.routine.release_message(token);
                    most = fitting;
                }
            }
        }
        None
    }

    /// Turn what was lost into loss records, which take numbers and room like any other.
    pub fn tell_losses(&mut self, counter: &mut Counter, now: UptimeMs) {
        for reason in REASONS {
            if self.losses.span(reason).is_none() {
                continue;
            }
            let Some(seq) = counter.take() else { return };
            if self.routine.is_full() {
                let evicted = self.routine.evict();
                self.lose(evicted);
            }
            let Some(span) = self.losses.take(reason) else {
                continue;
            };
            let record = Record::Loss(Loss {
                uptime: now,
                first: counter.key(span.first),
                last: counter.key(span.last),
                count: span.count,
                reason,
            });
            self.push(Numbered { seq, record });
        }
    }

    /// Whether a queue has records that wait.
    #[must_use]
    pub fn waiting(&self, lane: Lane) -> usize {
        match lane {
            Lane::Alarms => self.alarms.waiting().count(),
            Lane::Routine => self.routine.waiting().count(),
        }
    }

    /// Routine records in flight.
    #[must_use]
    pub fn routine_in_flight(&self) -> usize {
        self.routine.records().count() - self.routine.waiting().count()
    }

    /// Number and time of the oldest routine record that waits.
    #[must_use]
    pub fn oldest_routine(&self) -> Option<(Seq, UptimeMs)> {
        let oldest = self.routine.waiting().next()?;
        Some((oldest.seq, oldest.record.uptime()))
    }

    /// The least number over both queues, leaving out one message.
    #[must_use]
    pub fn oldest_without(&self, token: Token) -> Option<Seq> {
        let (alarm, routine) = (
            self.alarms.oldest_without(token),
            self.routine.oldest_without(token),
        );
        alarm.into_iter().chain(routine).min()
    }

    /// The least number over both queues.
    #[must_use]
    pub fn oldest(&self) -> Option<Seq> {
        let first = |numbered: &Numbered| numbered.seq;
        let alarm = self.alarms.records().next().map(first);
        alarm
            .into_iter()
            .chain(self.routine.records().next().map(first))
            .min()
    }

    /// Where records went.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for numbered in self.alarms.records().chain(self.routine.records()) {
            counters.count(numbered, |account| &mut account.pending);
        }
        counters
    }

    fn lose(&mut self, evicted: Option<Numbered>) {
        if let Some(numbered) = evicted {
            self.counters.count(&numbered, |account| &mut account.lost);
            self.losses.note(&numbered);
        }
    }

    fn load(&mut self, lane: Lane, token: Token, most: usize) {
        match lane {
            Lane::Alarms => {
                let mut room = most;
                self.alarms.load(token, |_| take(&mut room));
            }
            Lane::Routine => {
                let is_loss = |numbered: &&Numbered| matches!(numbered.record, Record::Loss(_));
                let losses = self.routine.waiting().filter(is_loss).count().min(most);
                let (mut room_losses, mut room) = (losses, most - losses);
                self.routine.load(token, |numbered| match numbered.record {
                    Record::Loss(_) => take(&mut room_losses),
                    _ => take(&mut room),
                });
            }
        }
    }

    /// The payload, nothing when the message is empty, or how many records fit.
    fn encode(
        &self,
        token: Token,
        counter: &Counter,
    ) -> Result<Option<heapless::Vec<u8, MESSAGE_MAX_BYTES>>, usize> {
        let oldest = self.oldest_without(token).unwrap_or(counter.upcoming());
        let header = BatchHeader {
            epoch: counter.epoch(),
            boot: counter.boot(),
            oldest_pending: counter.key(oldest),
        };
        let mut buffer = [0; MESSAGE_MAX_BYTES];
        let mut encoder = BatchEncoder::new(&mut buffer, header).map_err(|_| 0_usize)?;
        let loaded = self.alarms.loaded(token).chain(self.routine.loaded(token));
        for numbered in loaded {
            encoder.push(numbered).map_err(|_| encoder.len())?;
        }
        if encoder.is_empty() {
            return Ok(None);
        }
        Ok(heapless::Vec::from_slice(encoder.finish()).ok())
    }
}

/// The least key of both queues as a full key.
#[must_use]
pub fn oldest_key(queues: &Queues, counter: &Counter) -> Option<RecordKey> {
    queues.oldest().map(|seq| counter.key(seq))
}

fn take(room: &mut usize) -> bool {
    let taken = *room > 0;
    *room -= usize::from(taken);
    taken
}

impl Counters {
    fn count(&mut self, numbered: &Numbered, column: impl Fn(&mut Account) -> &mut u64) {
        *column(&mut self.records) += 1;
        if matches!(numbered.record, Record::Reading(_)) {
            *column(&mut self.readings) += 1;
        }
    }
}
