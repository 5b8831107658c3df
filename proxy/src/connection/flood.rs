//! Frames of HTTP/2 that cost us work and bring nobody an answer: pings, settings, priorities, windows, resets, empty
//! data (RFC 9113 §10.5). A client may send some, and more the more it asks for and is sent; who only ever sends such
//! is told to calm down.
//!
//! The library bounds what it keeps (CVE-2023-44487, CVE-2024-27316, CVE-2025-8671). This bounds what it does.

use std::time::{Duration, Instant};

/// Frames that a connection may have sent without having earned them.
const MOST: u32 = 1024;
/// Frames that each head, either way, and each frame with data from us earns: a client that takes a download opens two
/// windows for each frame of it, and one that measures the way (gRPC does) pings too.
const EARNED: u32 = 8;
/// Frames that are earned by waiting so long.
const EARNED_BY_WAITING: (u32, Duration) = (64, Duration::from_secs(1));

/// Length of a frame's head, and of what a client says before its first frame.
const HEAD: usize = 9;
const PREFACE: usize = 24;

/// Types of frames (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
/// `ENHANCE_YOUR_CALM` (RFC 9113 §7).
const CALM: u8 = 11;

/// Counts the frames of one connection.
#[derive(Debug)]
pub(super) struct Flood {
    incoming: Frames,
    outgoing: Frames,
    credit: u32,
    /// When something was earned by waiting.
    since: Instant,
    last_stream: u32,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            incoming: Frames {
                skip: PREFACE,
                ..Frames::default()
            },
            outgoing: Frames::default(),
            credit: MOST,
            since: now,
            last_stream: 0,
        }
    }

    /// These bytes came from the client. False when it has sent too much of nothing.
    #[must_use]
    pub(super) fn came(&mut self, bytes: &[u8], now: Instant) -> bool {
        let (mut cost, mut earned) = (0u32, 0u32);
        let last_stream = &mut self.last_stream;
        self.incoming.pass(bytes, |frame| match frame.kind {
            HEADERS => {
                earned += EARNED;
                *last_stream = (*last_stream).max(frame.stream);
            }
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => {}
            _ => cost += 1,
        });
        self.earn(earned);
        if cost > self.credit {
            let (frames, time) = EARNED_BY_WAITING;
            let periods = now.saturating_duration_since(self.since).as_millis() / time.as_millis();
            self.since = now;
            self.earn(u32::try_from(periods).unwrap_or(MOST).saturating_mul(frames));
        }
        let left = self.credit.checked_sub(cost);
        self.credit = left.unwrap_or(0);
        left.is_some()
    }

    /// These bytes went to the client.
    pub(super) fn went(&mut self, bytes: &[u8]) {
        let mut earned = 0;
        self.outgoing.pass(bytes, |frame| {
            if frame.kind == HEADERS || (frame.kind == DATA && frame.length > 0) {
                earned += EARNED;
            }
        });
        self.earn(earned);
    }

    fn earn(&mut self, frames: u32) {
        self.credit = self.credit.saturating_add(frames).min(MOST);
    }

    /// The frame that says why the connection ends, where one can begin.
    pub(super) fn goodbye(&self) -> Option<[u8; HEAD + 8]> {
        let is_between_frames = self.outgoing.skip == 0 && self.outgoing.have == 0;
        let mut frame = [0; HEAD + 8];
        frame[2] = 8;
        frame[3] = GOAWAY;
        frame[HEAD..HEAD + 4].copy_from_slice(&self.last_stream.to_be_bytes());
        frame[HEAD + 7] = CALM;
        is_between_frames.then_some(frame)
    }
}

/// Finds the heads of frames in the bytes of one direction (RFC 9113 §4.1).
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    have: usize,
    /// Bytes before the next head.
    skip: usize,
}

struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                self.have = 0;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                each(Frame {
                    length: self.skip,
                    kind,
                    flags,
                    stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        frame.resize(HEAD + usize::from(length), 0xff);
        frame
    }

    /// A connection that has begun.
    fn begun(now: Instant) -> Flood {
        let mut flood = Flood::new(now);
        assert!(flood.came(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now));
        flood
    }

    fn taken(flood: &mut Flood, frame: &[u8], now: Instant) -> u32 {
        (0..100_000).take_while(|_| flood.came(frame, now)).count() as u32
    }

    #[test]
    fn rfc_9113_section_10_5_frames_that_ask_for_nothing_run_out() {
        let now = Instant::now();
        for wasted in [
            frame(PING, 0, 0, 8),
            frame(4, 0, 0, 6),
            frame(2, 0, 1, 5),
            frame(WINDOW_UPDATE, 0, 0, 4),
            frame(3, 0, 1, 4),
            frame(DATA, 0, 1, 0),
            frame(200, 0, 0, 3),
        ] {
            assert_eq!(taken(&mut begun(now), &wasted, now), MOST, "{wasted:?}");
        }
        // However the bytes are cut.
        let mut flood = begun(now);
        let bytes = frame(PING, 0, 0, 8).repeat(MOST as usize + 1);
        assert!(!bytes.chunks(7).all(|part| flood.came(part, now)));
    }

    #[test]
    fn a_client_that_asks_or_is_answered_may_go_on_for_ever() {
        let now = Instant::now();
        let mut flood = begun(now);
        let window = [frame(WINDOW_UPDATE, 0, 0, 4), frame(WINDOW_UPDATE, 0, 1, 4)].concat();
        for _ in 0..100_000 {
            flood.went(&frame(DATA, 0, 1, 100));
            assert!(flood.came(&window, now) && flood.came(&frame(PING, 0, 0, 8), now));
        }
        for _ in 0..100_000 {
            assert!(flood.came(&frame(HEADERS, 4, 1, 20), now) && flood.came(&frame(2, 0, 1, 5), now));
        }
        for _ in 0..100_000 {
            assert!(
                flood.came(&frame(DATA, 0, 1, 1), now),
                "an upload earns nothing and costs nothing"
            );
        }
        // An answer to a ping is not an answer to a question.
        let mut flood = begun(now);
        let pings = (0..100_000).take_while(|_| {
            flood.went(&frame(PING, 1, 0, 8));
            flood.came(&frame(PING, 0, 0, 8), now)
        });
        assert_eq!(pings.count() as u32, MOST);
    }

    #[test]
    fn waiting_earns_a_few() {
        let begin = Instant::now();
        let mut flood = begun(begin);
        let ping = frame(PING, 0, 0, 8);
        assert_eq!(taken(&mut flood, &ping, begin), MOST);
        assert_eq!(taken(&mut flood, &ping, begin + Duration::from_secs(2)), 128);
        assert_eq!(taken(&mut flood, &ping, begin + Duration::from_secs(600)), MOST);
    }

    #[test]
    fn rfc_9113_section_6_8_the_end_names_the_last_stream_and_comes_between_frames() {
        let now = Instant::now();
        let mut flood = begun(now);
        assert!(flood.came(&frame(HEADERS, 4, 5, 20), now));
        assert_eq!(
            flood.goodbye().unwrap(),
            [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 11]
        );
        flood.went(&frame(DATA, 0, 5, 20)[..15]);
        assert_eq!(flood.goodbye(), None);
    }
}
