//! One connection: a request, its answer.

use anyhow::{Result, ensure};
use kafka_wire::{Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    pub async fn open(address: &str) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, correlation: 0 })
    }

    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.correlation += 1;
        let frame = encode_request(self.correlation, Some("bench".into()), version, request);
        self.stream.write_all(&frame.map_err(|error| anyhow::anyhow!("{error:?}"))?.concat()).await?;
        let size = self.stream.read_u32().await?;
        let mut answer = vec![0; size as usize];
        self.stream.read_exact(&mut answer).await?;
        let (id, response) = decode_response::<R>(answer.into(), version)
            .map_err(|error| anyhow::anyhow!("an unreadable answer: {error:?}"))?;
        ensure!(id == self.correlation, "an answer to another request");
        Ok(response)
    }
}
