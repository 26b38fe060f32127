//! Counts in Redis, for replicas that share them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script};
use tokio::sync::OnceCell;

use super::Verdict;

/// Longest wait for an answer; then each replica counts for itself.
const PATIENCE: Duration = Duration::from_millis(100);

/// Longest time for a new connection, which nobody waits for.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long Redis is left alone after it did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// The same window as in memory, in one atomic step and by the server's clock: one hash per key, a
/// field per second.
const TAKE: &str = r"
local now = tonumber(redis.call('TIME')[1])
local limit, cost, seconds = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
local used, oldest = 0, now
for i = 1, #all, 2 do
  local second = tonumber(all[i])
  if second <= now - seconds then
    redis.call('HDEL', KEYS[1], all[i])
  else
    used = used + tonumber(all[i + 1])
    if second < oldest then oldest = second end
  end
end
local allowed = 0
if used + cost <= limit then
  allowed = 1
  used = used + cost
  redis.call('HINCRBY', KEYS[1], now, cost)
  redis.call('EXPIRE', KEYS[1], seconds + 1)
end
return {allowed, used, oldest + seconds}
";

/// A Redis server that counts.
pub struct SharedCounts {
    client: Client,
    /// Made anew after an answer did not come: a connection that is dead without a word is found out by
    /// nothing else.
    connection: Mutex<Arc<OnceCell<ConnectionManager>>>,
    script: Script,
    /// Not before then.
    paused_until: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for SharedCounts {
    /// Without the address: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedCounts")
    }
}

impl SharedCounts {
    /// The server at `url` (`redis://…` or `rediss://…`). Nothing is connected yet: a server that is
    /// away keeps nobody from starting.
    pub fn open(url: &str) -> Result<Self, String> {
        // The error would repeat the address, which may hold a password.
        let client = Client::open(url)
            .map_err(|_| "it is no address of the form redis://HOST:PORT/DATABASE".to_owned())?;
        Ok(Self {
            client,
            connection: Mutex::default(),
            script: Script::new(TAKE),
            paused_until: Mutex::default(),
        })
    }

    /// Takes `cost` of the `limit` of the key `id`; `None` when Redis does not answer.
    pub(super) async fn take(&self, id: &str, limit: u32, cost: u32) -> Option<Verdict> {
        let paused = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(id, limit, cost)).await;
        let reason = match asked {
            Ok(Ok((allowed, used, reset))) => {
                self.pause(None);
                return Some(Verdict {
                    is_allowed: allowed == 1,
                    limit,
                    remaining: limit.saturating_sub(used),
                    reset,
                });
            }
            // Kind only: the text may hold the address.
            Ok(Err(error)) => error.category().to_owned(),
            Err(_) => {
                let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
                // One that is still being made may yet come about.
                if connection.initialized() {
                    *connection = Arc::default();
                }
                "no answer in time".to_owned()
            }
        };
        if paused.is_none() {
            tracing::warn!(reason, "Redis does not count: each replica counts for itself");
        }
        self.pause(Some(Instant::now() + PAUSE));
        None
    }

    async fn ask(&self, id: &str, limit: u32, cost: u32) -> Result<(u8, u32, i64), RedisError> {
        let cell = Arc::clone(&self.connection.lock().unwrap_or_else(PoisonError::into_inner));
        let mut connection = match cell.get() {
            Some(connection) => connection.clone(),
            None => self.connect(cell).await?,
        };
        self.script
            .key(format!("agentflow:rate:{id}"))
            .arg(limit)
            .arg(cost)
            .arg(61)
            .invoke_async(&mut connection)
            .await
    }

    /// Connects on a task of its own: who asks waits for it no longer than for an answer, and it goes on.
    async fn connect(
        &self,
        cell: Arc<OnceCell<ConnectionManager>>,
    ) -> Result<ConnectionManager, RedisError> {
        let client = self.client.clone();
        let connecting = tokio::spawn(async move {
            let connect = || {
                let config = ConnectionManagerConfig::new()
                    .set_number_of_retries(1)
                    .set_connection_timeout(Some(CONNECT_WITHIN))
                    .set_response_timeout(Some(CONNECT_WITHIN));
                client.get_connection_manager_with_config(config)
            };
            cell.get_or_try_init(connect).await.cloned()
        });
        connecting.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
    }

    fn pause(&self, until: Option<Instant>) {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}
