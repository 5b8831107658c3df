//! One DNS connection: queries may be sent without waiting, answers come back as they are found.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use linkspan_dns::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Fate, Names};

/// How long a connection may be without a whole query, and how long one answer may take to be written.
const IDLE: Duration = Duration::from_secs(10);
/// Questions of one connection under way at once; further ones wait unread.
const PIPELINE: usize = 32;
/// Bytes of the length in front of a message (RFC 1035, section 4.2.2).
const PREFIX: usize = 2;

/// Serves a connection until it ends, idles, or `stop` finds it without a question under way.
pub(super) async fn serve(
    names: &Names,
    stream: TcpStream,
    asker: IpAddr,
    stop: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut asking = JoinSet::new();
    let mut buffer = Vec::new();
    let mut ended = false;
    let mut deadline = Instant::now() + IDLE;
    loop {
        while asking.len() < PIPELINE {
            let Some(query) = next_query(&mut buffer) else {
                break;
            };
            deadline = Instant::now() + IDLE;
            match names.fate(asker, &query, Transport::Tcp) {
                Fate::Reply(reply) => write(&mut writer, &reply).await?,
                // Whatever speaks here, it isn't DNS.
                Fate::Drop => return Ok(()),
                Fate::Ask(servers) => {
                    let names = names.clone();
                    asking.spawn(async move {
                        names
                            .forwarder
                            .forward(asker, &query, &servers, Transport::Tcp)
                            .await
                    });
                }
            }
        }
        if ended && asking.is_empty() {
            return Ok(());
        }
        tokio::select! {
            Some(found) = asking.join_next() => {
                deadline = Instant::now() + IDLE;
                if let Ok(reply) = found {
                    write(&mut writer, &reply).await?;
                }
            }
            read = reader.read_buf(&mut buffer), if !ended && asking.len() < PIPELINE => ended = read? == 0,
            () = sleep_until(deadline), if asking.is_empty() => return Ok(()),
            () = stop.cancelled(), if asking.is_empty() => return Ok(()),
        }
    }
}

/// Takes the first whole query off the buffer.
fn next_query(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*buffer.first_chunk()?));
    let query = buffer.get(PREFIX..PREFIX + length)?.to_vec();
    buffer.drain(..PREFIX + length);
    Some(query)
}

async fn write(writer: &mut OwnedWriteHalf, reply: &[u8]) -> io::Result<()> {
    // One write, one segment: some clients can't put a message together that comes in two (RFC 7766, section 8).
    let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    timeout(IDLE, writer.write_all(&[&length.to_be_bytes(), reply].concat())).await?
}
