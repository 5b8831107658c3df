//! Answers that come in pieces: events, logs, archives, and the two directions of exec.

use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};

use super::ClientError;
use super::connection::{Answer, Driver};
use crate::frames::{self, Decoder, Frame, FrameReader};
use crate::v1::{Event, frame};

/// Longest line of an event stream, in bytes.
const LINE_MAX: usize = 1 << 20;

/// Data of a body, piece by piece.
struct Pieces {
    body: Incoming,
    _driver: Driver,
}

impl Pieces {
    fn new(answer: Answer) -> Self {
        Self {
            body: answer.response.into_body(),
            _driver: answer.driver,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(piece) = self.body.frame().await {
            if let Ok(data) = piece.map_err(ClientError::BrokenStream)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// What happens, as it happens.
pub struct Events {
    pieces: Pieces,
    pending: BytesMut,
}

impl Events {
    pub(super) fn new(answer: Answer) -> Self {
        Self {
            pieces: Pieces::new(answer),
            pending: BytesMut::new(),
        }
    }

    /// The next event, `None` when the daemon has no more to say. Safe to cancel.
    pub async fn next_event(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line = self.pending.split_to(end);
                self.pending.advance(1);
                // An empty line keeps the connection warm.
                if !line.trim_ascii().is_empty() {
                    return parse(&line).map(Some);
                }
            }
            if self.pending.len() > LINE_MAX {
                return Err(ClientError::Reported(format!(
                    "an event is longer than {LINE_MAX} bytes"
                )));
            }
            match self.pieces.next().await? {
                Some(piece) => self.pending.extend_from_slice(&piece),
                None if self.pending.trim_ascii().is_empty() => return Ok(None),
                None => return parse(&self.pending.split()).map(Some),
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Event, ClientError> {
    serde_json::from_slice(line).map_err(|error| {
        let line: String = String::from_utf8_lossy(line).chars().take(200).collect();
        ClientError::Reported(format!("the daemon sent `{line}`, which is no event ({error})"))
    })
}

/// An archive that comes down.
pub struct Download {
    pieces: Pieces,
}

impl Download {
    pub(super) fn new(answer: Answer) -> Self {
        Self {
            pieces: Pieces::new(answer),
        }
    }

    /// Bytes still to come, when the daemon said.
    pub fn remaining(&self) -> Option<u64> {
        self.pieces.body.size_hint().exact()
    }

    /// The next piece, `None` at the end. A body that broke off is an error, never an end.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.pieces.next().await
    }
}

/// Something that a program wrote, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To standard output, or the terminal.
    Stdout(Bytes),
    /// To standard error.
    Stderr(Bytes),
    /// It ended with this status. (exec)
    Exit(u32),
}

impl Output {
    /// `None` for kinds that this version doesn't know.
    fn new(frame: Frame) -> Result<Option<Self>, ClientError> {
        Ok(match frame.kind {
            frame::STDOUT => Some(Self::Stdout(frame.payload)),
            frame::STDERR => Some(Self::Stderr(frame.payload)),
            frame::EXIT => match frame.payload.first_chunk::<4>() {
                Some(status) => Some(Self::Exit(u32::from_be_bytes(*status))),
                None => {
                    return Err(ClientError::Reported(
                        "the daemon sent half an exit status".to_owned(),
                    ));
                }
            },
            frame::ERROR => {
                return Err(ClientError::Reported(
                    String::from_utf8_lossy(&frame.payload).into_owned(),
                ));
            }
            _ => None,
        })
    }
}

/// What a container wrote.
pub struct Logs {
    pieces: Pieces,
    decoder: Decoder,
}

impl Logs {
    pub(super) fn new(answer: Answer) -> Self {
        Self {
            pieces: Pieces::new(answer),
            decoder: Decoder::default(),
        }
    }

    /// The next piece of it, `None` at the end. Safe to cancel.
    pub async fn next_output(&mut self) -> Result<Option<Output>, ClientError> {
        loop {
            while let Some(frame) = self.decoder.next_frame()? {
                if let Some(output) = Output::new(frame)? {
                    return Ok(Some(output));
                }
            }
            match self.pieces.next().await? {
                Some(piece) => self.decoder.push(&piece),
                None => return self.decoder.finish().map(|()| None).map_err(ClientError::from),
            }
        }
    }
}

/// What goes to a program run by exec.
pub struct ExecInput {
    to: WriteHalf<TokioIo<Upgraded>>,
}

/// What comes from a program run by exec.
pub struct ExecOutput {
    from: FrameReader<ReadHalf<TokioIo<Upgraded>>>,
    _driver: Driver,
}

pub(super) async fn upgrade(answer: Answer, socket: &Path) -> Result<(ExecInput, ExecOutput), ClientError> {
    let Answer { response, driver } = answer;
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|source| ClientError::Broken {
            path: socket.to_owned(),
            source,
        })?;
    let (from, to) = tokio::io::split(TokioIo::new(upgraded));
    Ok((
        ExecInput { to },
        ExecOutput {
            from: FrameReader::new(from),
            _driver: driver,
        },
    ))
}

impl ExecInput {
    /// Sends standard input. Not safe to cancel.
    pub async fn stdin(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        // An empty frame would mean the end.
        if bytes.is_empty() {
            return Ok(());
        }
        frames::write(&mut self.to, frame::STDIN, bytes).await
    }

    /// Standard input has ended.
    pub async fn close_stdin(&mut self) -> std::io::Result<()> {
        frames::write(&mut self.to, frame::STDIN, &[]).await
    }

    /// The terminal's size, in characters.
    pub async fn resize(&mut self, rows: u16, columns: u16) -> std::io::Result<()> {
        let [r, o] = rows.to_be_bytes();
        let [c, l] = columns.to_be_bytes();
        frames::write(&mut self.to, frame::RESIZE, &[r, o, c, l]).await
    }

    /// Nothing more is sent, not even resizes.
    pub async fn shutdown(&mut self) -> std::io::Result<()> {
        self.to.shutdown().await
    }
}

impl ExecOutput {
    /// The next piece of output or the exit status, `None` when the connection ended. Safe to cancel.
    pub async fn next_output(&mut self) -> Result<Option<Output>, ClientError> {
        while let Some(frame) = self.from.next_frame().await? {
            if let Some(output) = Output::new(frame)? {
                return Ok(Some(output));
            }
        }
        Ok(None)
    }
}
