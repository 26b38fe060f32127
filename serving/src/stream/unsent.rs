//! Bytes in HTTP's chunked coding that a socket has not taken yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use axum::body::Bytes;
use tokio::net::TcpStream;

/// Ends each chunk.
const LINE_END: &[u8] = b"\r\n";

/// Ends the body.
const LAST: &[u8] = b"0\r\n\r\n";

/// Most parts that are written at once.
const PARTS: usize = 8;

/// What is still to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Unsent(VecDeque<Bytes>);

impl Unsent {
    /// Bytes as they are: the head of an answer.
    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Self(VecDeque::from([Bytes::from(bytes)]))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a chunk. None is written for no bytes: that would be the end.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let mut line = [0; 18];
            self.0.push_back(Bytes::copy_from_slice(size_line(bytes.len(), &mut line)));
            self.0.push_back(bytes);
            self.0.push_back(Bytes::from_static(LINE_END));
        }
    }

    /// Adds the end.
    pub(crate) fn push_end(&mut self) {
        self.0.push_back(Bytes::from_static(LAST));
    }

    /// Adds what another one holds.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Writes a chunk; what is returned was not taken. An error of the socket shows when that is written.
    pub(crate) fn after_sending(socket: &TcpStream, bytes: &Bytes) -> Self {
        let mut line = [0; 18];
        let line = size_line(bytes.len(), &mut line);
        let slices = [line, bytes, LINE_END].map(IoSlice::new);
        let sent = socket.try_write_vectored(&slices).unwrap_or(0);
        if sent == line.len() + bytes.len() + LINE_END.len() {
            return Self::default();
        }
        let mut unsent = Self::default();
        unsent.push(bytes.clone());
        unsent.advance(sent);
        unsent
    }

    /// Writes as much as the socket takes at once: all of it, or an error, which may be `WouldBlock`.
    pub(crate) fn send(&mut self, socket: &TcpStream) -> io::Result<()> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS];
            let parts =
                self.0.iter().zip(&mut slices).map(|(part, slice)| *slice = IoSlice::new(part));
            let count = parts.count();
            match socket.try_write_vectored(&slices[..count])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => self.advance(sent),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(first) = self.0.front_mut() {
            if first.len() > sent {
                drop(first.split_to(sent));
                return;
            }
            sent -= first.len();
            self.0.pop_front();
        }
        self.0.shrink_to_fit();
    }
}

/// The line before a chunk.
fn size_line(length: usize, line: &mut [u8; 18]) -> &[u8] {
    let mut rest = &mut line[..];
    // 16 digits are enough for any length.
    let _ = write!(rest, "{length:x}\r\n");
    let left = rest.len();
    &line[..18 - left]
}
