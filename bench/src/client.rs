//! One keep-alive connection that has one request in flight: the least work per request that a client can do.
//! Sends bytes that others prepared, and never sends a request a second time.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Error;
use crate::response::{Body, Head};

/// A connection that opens itself when it is needed, and again after a failure.
pub(crate) struct Connection {
    authority: Arc<str>,
    socket: Option<TcpStream>,
    buffer: Box<[u8]>,
    /// `buffer[start..end]` was received and not looked at yet.
    start: usize,
    end: usize,
}

impl Connection {
    /// A connection to `host:port`. A response head must fit into the buffer.
    pub(crate) fn new(authority: Arc<str>, buffer_bytes: usize) -> Self {
        Connection { authority, socket: None, buffer: vec![0; buffer_bytes].into(), start: 0, end: 0 }
    }

    /// Sends a request and reads the whole response, without keeping its body.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Head, Error> {
        self.fetch(request, |_| ()).await
    }

    /// Sends a request and reads the whole response; the body goes to `sink` piece by piece.
    pub(crate) async fn fetch(&mut self, request: &[u8], mut sink: impl FnMut(&[u8])) -> Result<Head, Error> {
        let mut head = self.send(request).await?;
        while let Some(piece) = self.piece(&mut head.body).await? {
            sink(piece);
        }
        if !head.keep_alive {
            self.socket = None;
        }
        Ok(head)
    }

    /// Sends a request and reads the head of the response; [`Connection::piece`] reads the body.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Head, Error> {
        let result = self.try_send(request).await;
        self.drop_if_failed(result)
    }

    /// The next piece of a body; `None` after the last one.
    pub(crate) async fn piece(&mut self, body: &mut Body) -> Result<Option<&[u8]>, Error> {
        let result = self.try_piece(body).await;
        let range = self.drop_if_failed(result)?;
        Ok(range.map(|range| &self.buffer[range]))
    }

    fn drop_if_failed<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.socket = None;
        }
        result
    }

    async fn try_send(&mut self, request: &[u8]) -> Result<Head, Error> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            closed => {
                let socket = TcpStream::connect(&*self.authority).await?;
                socket.set_nodelay(true)?;
                (self.start, self.end) = (0, 0);
                closed.insert(socket)
            }
        };
        socket.write_all(request).await?;
        loop {
            if let Some((head, length)) = Head::parse(&self.buffer[self.start..self.end])? {
                self.start += length;
                return Ok(head);
            }
            if self.fill().await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    async fn try_piece(&mut self, body: &mut Body) -> Result<Option<std::ops::Range<usize>>, Error> {
        while !body.is_done() {
            if self.start == self.end && self.fill().await? == 0 {
                self.socket = None;
                return match body {
                    Body::UntilClose => Ok(None),
                    _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                };
            }
            let taken = body.take(&self.buffer[self.start..self.end])?;
            let data = self.start + taken.data.start..self.start + taken.data.end;
            self.start += taken.consumed;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Receives more bytes behind those that are there; 0 is the end of the connection.
    async fn fill(&mut self) -> Result<usize, Error> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            return Err(Error::HeadTooLong);
        }
        let socket = self.socket.as_mut().ok_or(io::ErrorKind::NotConnected).map_err(io::Error::from)?;
        let received = socket.read(&mut self.buffer[self.end..]).await?;
        self.end += received;
        Ok(received)
    }
}

#[cfg(test)]
mod tests;
