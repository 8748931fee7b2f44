//! A scripted MQTT 5 peer: accepts everything, acknowledges it, and remembers it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use protocol::batch::Batch;
use protocol::record::Record;
use protocol::topic::{Channel, Topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Payloads by device and channel, as they came.
pub(crate) type Received = Arc<Mutex<BTreeMap<(String, Channel), Vec<Vec<u8>>>>>;

/// Listens on a free port of this machine; returns its address.
pub(crate) async fn peer(received: Received) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&received)));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, received: Received) -> Option<()> {
    loop {
        let kind = stream.read_u8().await.ok()?;
        let length = varint(&mut stream).await?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let answer = match kind >> 4 {
            1 => vec![0x20, 3, 0, 0, 0],
            3 => publish(&body, &received)?,
            8 => vec![0x90, 5, body[0], body[1], 0, 1, 1],
            12 => vec![0xD0, 0],
            _ => return None,
        };
        stream.write_all(&answer).await.ok()?;
    }
}

async fn varint(stream: &mut TcpStream) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = stream.read_u8().await.ok()?;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Notes a publication of `QoS` 1 and makes its PUBACK.
fn publish(body: &[u8], received: &Received) -> Option<Vec<u8>> {
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = Topic::parse(std::str::from_utf8(&body[2..topic_end]).ok()?).ok()?;
    let id = &body[topic_end..topic_end + 2];
    let properties = usize::from(body[topic_end + 2]);
    assert!(properties < 0x80, "the peer reads short properties only");
    let payload = body[topic_end + 3 + properties..].to_vec();
    let key = (topic.device.to_string(), topic.channel);
    received
        .lock()
        .unwrap()
        .entry(key)
        .or_default()
        .push(payload);
    Some(vec![0x40, 2, id[0], id[1]])
}

/// Every record by (device, sequence number).
pub(crate) fn records(received: &Received) -> BTreeMap<(String, u32), Record> {
    let received = received.lock().unwrap();
    let batches = received
        .iter()
        .filter(|((_, channel), _)| matches!(channel, Channel::Readings | Channel::Alarms));
    let mut records = BTreeMap::new();
    for ((device, _), payloads) in batches {
        for payload in payloads {
            for entry in &Batch::decode(payload).unwrap() {
                let key = (device.clone(), entry.numbered.seq.0);
                let before = records.insert(key, entry.numbered.record);
                assert!(before.is_none_or(|before| before == entry.numbered.record));
            }
        }
    }
    records
}
