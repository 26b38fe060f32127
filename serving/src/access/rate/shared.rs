//! Counts in Redis, for replicas that share them.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script};
use tokio::sync::OnceCell;

use super::Verdict;

/// Longest wait for an answer; then each replica counts for itself.
const PATIENCE: Duration = Duration::from_millis(100);

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
    connection: OnceCell<ConnectionManager>,
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
            connection: OnceCell::new(),
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
            Err(_) => "no answer in time".to_owned(),
        };
        if paused.is_none() {
            tracing::warn!(reason, "Redis does not count: each replica counts for itself");
        }
        self.pause(Some(Instant::now() + PAUSE));
        None
    }

    async fn ask(&self, id: &str, limit: u32, cost: u32) -> Result<(u8, u32, i64), RedisError> {
        let connect = || {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE));
            self.client.get_connection_manager_with_config(config)
        };
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        self.script
            .key(format!("agentflow:rate:{id}"))
            .arg(limit)
            .arg(cost)
            .arg(61)
            .invoke_async(&mut connection)
            .await
    }

    fn pause(&self, until: Option<Instant>) {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}
