//! The demo's live view: a screen that is redrawn, or plain lines where there is no terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use crossterm::{cursor, execute, terminal};
use serde::Serialize;

/// Events kept on the screen: what fits below two dozen trackers on a common terminal.
const EVENTS_SHOWN: usize = 10;
/// As plain lines, the trackers are listed once in so many headlines, from the second one on.
const TRACKERS_EVERY_LINES: u32 = 5;
/// Columns and lines assumed where the terminal does not tell.
const SIZE_ASSUMED: (u16, u16) = (120, 60);

/// One tracker, in words.
#[derive(Clone, Debug)]
pub(super) struct TrackerLine {
    /// Device id.
    pub(super) device: String,
    /// Where, in words.
    pub(super) place: String,
    /// Last temperature in degrees Celsius.
    pub(super) celsius: Option<f64>,
    /// Battery charge in percent.
    pub(super) battery: Option<u8>,
    /// Age of the newest data at the gateway, in event seconds; `None` before the first.
    pub(super) age_s: Option<i64>,
}

/// One notification, in words.
#[derive(Clone, Debug, Serialize)]
pub(super) struct EventLine {
    /// Event time of day.
    pub(super) time: String,
    /// `open`, `close`, ...
    pub(super) phase: String,
    /// Code of the dictionary.
    pub(super) code: String,
    /// Whose goods.
    pub(super) shipment: String,
    /// What happened, in plain language.
    pub(super) title: String,
    /// What to do next.
    pub(super) next: String,
}

/// What the headline says.
#[derive(Clone, Debug)]
pub(super) struct Headline {
    /// Event time, readable.
    pub(super) event_time: String,
    /// Event seconds per wall second.
    pub(super) speed: u32,
    /// Records the gateway has stored.
    pub(super) stored: u64,
    /// Events notified so far.
    pub(super) events: u64,
}

/// What the view looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A screen that is redrawn.
    Screen,
    /// Plain lines, where there is no terminal.
    Lines,
    /// Events as JSON Lines, and nothing else.
    Json,
}

/// Where the view goes.
#[derive(Debug)]
pub(super) struct LiveView {
    form: Form,
    recent: Vec<EventLine>,
    drawn: u32,
}

impl LiveView {
    /// JSON Lines when asked for, else a screen on a terminal and plain lines elsewhere.
    #[must_use]
    pub(super) fn new(json: bool) -> Self {
        let form = match (json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Screen,
            (false, false) => Form::Lines,
        };
        Self {
            form,
            recent: Vec::new(),
            drawn: 0,
        }
    }

    /// Whether it redraws a screen.
    pub(super) fn is_screen(&self) -> bool {
        self.form == Form::Screen
    }

    /// New notifications: remembered for the screen, or printed at once.
    ///
    /// # Errors
    /// When standard output is gone.
    pub(super) fn tell(&mut self, events: Vec<EventLine>) -> io::Result<()> {
        for event in events {
            match self.form {
                Form::Screen => {}
                Form::Lines => writeln!(io::stdout(), "{}", event_text(&event))?,
                Form::Json => writeln!(io::stdout(), "{}", serde_json::to_string(&event)?)?,
            }
            self.recent.push(event);
        }
        let surplus = self.recent.len().saturating_sub(EVENTS_SHOWN);
        self.recent.drain(..surplus);
        Ok(())
    }

    /// Redraw the screen; as plain lines say how far things are, and now and then where everyone is.
    ///
    /// # Errors
    /// When standard output is gone.
    pub(super) fn draw(&mut self, head: &Headline, trackers: &[TrackerLine]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.form {
            Form::Json => {}
            Form::Lines => {
                writeln!(out, "{}", headline_text(head, trackers.len()))?;
                if self.drawn % TRACKERS_EVERY_LINES == 1 {
                    for tracker in trackers {
                        writeln!(out, "{}", tracker_text(tracker))?;
                    }
                }
            }
            Form::Screen => {
                let (width, height) = known_size(terminal::size());
                execute!(
                    out,
                    cursor::MoveTo(0, 0),
                    terminal::Clear(terminal::ClearType::All)
                )?;
                for line in screen(head, trackers, &self.recent, usize::from(height)) {
                    let line: String = line.chars().take(usize::from(width)).collect();
                    writeln!(out, "{line}")?;
                }
            }
        }
        self.drawn = self.drawn.wrapping_add(1);
        out.flush()
    }
}

/// Terminals that do not know their size say that it is nothing.
fn known_size(told: io::Result<(u16, u16)>) -> (u16, u16) {
    let told = told
        .ok()
        .filter(|(width, height)| *width > 0 && *height > 0);
    told.unwrap_or(SIZE_ASSUMED)
}

/// The whole screen, at most `height - 1` lines; events come before trackers when space is short.
fn screen(
    head: &Headline,
    trackers: &[TrackerLine],
    events: &[EventLine],
    height: usize,
) -> Vec<String> {
    let mut lines = vec![headline_text(head, trackers.len()), String::new()];
    let space = height.saturating_sub(lines.len() + events.len() + 5);
    lines.push(format!(
        "{:<10} {:>8} {:>8} {:>9}  {}",
        "TRACKER", "TEMP", "BATTERY", "DATA AGE", "PLACE"
    ));
    lines.extend(trackers.iter().take(space).map(tracker_text));
    if trackers.len() > space {
        lines.push(format!("... and {} more", trackers.len() - space));
    }
    lines.push(String::new());
    lines.push("EVENTS (newest last)".to_owned());
    lines.extend(events.iter().map(event_text));
    lines
}

fn headline_text(head: &Headline, trackers: usize) -> String {
    format!(
        "Supercargo demo  {}  x{}  {trackers} trackers  {} records stored  {} events",
        head.event_time, head.speed, head.stored, head.events
    )
}

fn tracker_text(tracker: &TrackerLine) -> String {
    let celsius = tracker
        .celsius
        .map_or_else(|| "-".to_owned(), |value| format!("{value:.1} C"));
    let battery = tracker
        .battery
        .map_or_else(|| "-".to_owned(), |value| format!("{value} %"));
    let age = tracker.age_s.map_or_else(|| "-".to_owned(), age_text);
    format!(
        "{:<10} {celsius:>8} {battery:>8} {age:>9}  {}",
        tracker.device, tracker.place
    )
}

fn age_text(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..5_400 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

fn event_text(event: &EventLine) -> String {
    let mut text = format!(
        "{} {:<7} {:<18} {}: {}",
        event.time, event.phase, event.code, event.shipment, event.title
    );
    // Writing to a String cannot fail.
    let _ = write!(text, "  -> {}", event.next);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(device: &str) -> TrackerLine {
        TrackerLine {
            device: device.to_owned(),
            place: "12 km after Lafayette towards Lebanon".to_owned(),
            celsius: Some(4.25),
            battery: Some(87),
            age_s: Some(125),
        }
    }

    #[test]
    fn a_short_terminal_keeps_the_events_and_says_how_many_trackers_are_hidden() {
        let head = Headline {
            event_time: "12:00".to_owned(),
            speed: 900,
            stored: 1,
            events: 1,
        };
        let event = EventLine {
            time: "11:58".to_owned(),
            phase: "open".to_owned(),
            code: "EX_TEMPERATURE".to_owned(),
            shipment: "S-1".to_owned(),
            title: "Too warm".to_owned(),
            next: "Check the reefer".to_owned(),
        };
        let trackers: Vec<_> = (0..24)
            .map(|index| tracker(&format!("t-{index}")))
            .collect();
        let lines = screen(&head, &trackers, &[event], 20);
        assert!(lines.len() < 20, "{} lines", lines.len());
        assert!(lines.iter().any(|line| line.contains("more")));
        assert!(lines.last().unwrap().contains("Check the reefer"));
    }

    #[test]
    fn a_terminal_without_a_size_gets_the_assumed_one() {
        let unknown = io::Error::other("no terminal");
        assert_eq!(known_size(Err(unknown)), SIZE_ASSUMED);
        assert_eq!(known_size(Ok((0, 0))), SIZE_ASSUMED);
        assert_eq!(known_size(Ok((80, 24))), (80, 24));
    }

    #[test]
    fn a_tracker_line_names_place_temperature_battery_and_age() {
        let line = tracker_text(&tracker("t-1"));
        for part in ["t-1", "4.2 C", "87 %", "2 min", "Lafayette"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
