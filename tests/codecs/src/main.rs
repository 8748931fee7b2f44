//! Three MQTT packet codecs, given the same packets: which verdicts are wrong, whether mutations make one panic,
//! and how fast a PUBLISH is decoded. Prints the table of docs/adr/0002-mqtt-codec.md.

mod book;
mod codec;

use std::panic::{self, AssertUnwindSafe};

use book::{BOOK, Frame, Version};
use codec::Codec;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

/// Seed of the mutations.
const SEED: u64 = 0x5ca1_ab1e;

/// Mutations of packets of the book.
const MUTATIONS: u32 = 3_000_000;

/// Most bytes changed, removed or added in one mutation.
const EDITS_MAX: u32 = 4;

/// Messages decoded in one run, and runs of which the best counts.
const MESSAGES: u32 = 512_000;
const RUNS: u32 = 5;

/// Payload of the message that is decoded, in bytes: a batch of 20 readings.
const PAYLOAD_BYTES: usize = 300;

fn main() {
    println!(
        "seed {SEED:#x}, {} packets, {MUTATIONS} mutations",
        BOOK.len()
    );
    println!(
        "| codec | MQTT 5, M/s | 3.1.1, M/s | wrong of {} | fuzz |",
        BOOK.len()
    );
    println!("|---|---|---|---|---|");
    // A panic is counted, not shown three million times.
    panic::set_hook(Box::new(|_| {}));
    let mut wrong = Vec::new();
    for codec in Codec::ALL {
        let found = wrong_verdicts(codec);
        println!(
            "| {} | {:.1} | {:.1} | {} | {} |",
            codec.name(),
            decoded_per_us(codec, Version::V5),
            decoded_per_us(codec, Version::V311),
            found.len(),
            fuzzed(codec)
        );
        wrong.push((codec, found));
    }
    for (codec, found) in wrong {
        println!("\n{}:", codec.name());
        found.iter().for_each(|row| println!("  {row}"));
    }
}

fn wrong_verdicts(codec: Codec) -> Vec<String> {
    let rows = BOOK
        .iter()
        .filter_map(|(version, first, body, legal, about)| {
            let taken = codec.takes(*version, &Frame::new(*first, body));
            let verdict = if taken { "takes" } else { "refuses" };
            (taken != *legal).then(|| format!("{verdict} {version:?} {about}"))
        });
    rows.collect()
}

/// Every mutation is given its true length, so that it comes past the framing.
fn fuzzed(codec: Codec) -> String {
    let mut noise = Pcg32::seed_from_u64(SEED);
    let mut panics = 0;
    for _ in 0..MUTATIONS {
        let (version, first, body, ..) = BOOK[noise.random_range(0..BOOK.len())];
        let frame = mutated(first, body, &mut noise);
        let taken = panic::catch_unwind(AssertUnwindSafe(|| codec.takes(version, &frame)));
        panics += u32::from(taken.is_err());
    }
    match panics {
        0 => "no panic".to_owned(),
        _ => format!("{panics} panics"),
    }
}

fn mutated(first: u8, body: &[u8], noise: &mut Pcg32) -> Frame {
    let mut body = body.to_vec();
    for _ in 0..noise.random_range(1..=EDITS_MAX) {
        let at = noise.random_range(0..=body.len());
        match noise.random_range(0..3) {
            0 if at < body.len() => body[at] = noise.random(),
            1 if at < body.len() => drop(body.remove(at)),
            _ => body.insert(at, noise.random()),
        }
    }
    let keeps_header = noise.random_range(0..8) > 0;
    Frame::new(if keeps_header { first } else { noise.random() }, &body)
}

/// Million messages a second of one core: a PUBLISH of QoS 1, each frame by itself, decoded.
fn decoded_per_us(codec: Codec, version: Version) -> f64 {
    let mut body = b"\0\x15sc/1/trk-0001/readings\0\x01".to_vec();
    body[1] = u8::try_from(body.len() - 4).expect("a short topic");
    if version == Version::V5 {
        body.push(0);
    }
    body.extend([7; PAYLOAD_BYTES]);
    let frame = Frame::new(0x32, &body);
    assert!(codec.takes(version, &frame), "{} refuses it", codec.name());
    let runs = (0..RUNS).map(|_| {
        let start_ns = cpu_ns();
        let taken = (0..MESSAGES).filter(|_| codec.takes(version, std::hint::black_box(&frame)));
        let taken = std::hint::black_box(taken.count());
        let spent_ns = (cpu_ns() - start_ns) as f64;
        f64::from(MESSAGES.min(taken as u32)) * 1e3 / spent_ns
    });
    runs.fold(0.0, f64::max)
}

/// Time that this thread has had a core, in nanoseconds: what else the machine does is left out.
fn cpu_ns() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    let first = told.split_whitespace().next();
    first
        .and_then(|ns| ns.parse().ok())
        .expect("nanoseconds first")
}
