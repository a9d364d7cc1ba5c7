//! A connection to Redis: one server, the master that Sentinels name, or a cluster.

use kernel::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, RedisResult, Script, ScriptInvocation};
use std::time::Duration;

/// How long a server of a cluster may take to connect, and to answer.
const CLUSTER_PATIENCE: Duration = Duration::from_millis(500);

/// Where connections come from.
pub(crate) enum Origin {
    One(Box<Client>),
    /// Asked anew for each connection: after a failover it names another master.
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

/// A connection, shared by all who clone it.
pub(crate) enum Link {
    One(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl Origin {
    /// From a URL: `redis://[:password@]host:port/`, `redis+sentinel://[:password@]host:port,host:port/master` or
    /// `redis-cluster://[:password@]host:port,host:port`. The password is that of the servers with data. Errors: `limits.invalid_redis`.
    pub(crate) fn parse(url: &str) -> Result<Origin> {
        let invalid = |why: &str| {
            let forms = "redis://host:port/, redis+sentinel://host:port,host:port/master or redis-cluster://host:port,host:port";
            Error::invalid("limits.invalid_redis", format!("the URL of Redis is not of the form {forms}: {why}"))
        };
        let wrong = |error: redis::RedisError| invalid("it is not understood").caused_by(error);
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no ://"))?;
        let (password, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (user.strip_prefix(':'), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let servers = || {
            let server = |text: &str| {
                let (host, port) = text.rsplit_once(':')?;
                let host = host.trim_start_matches('[').trim_end_matches(']');
                (!host.is_empty()).then_some((host.to_owned(), port.parse::<u16>().ok()?))
            };
            hosts.split(',').map(|text| server(text).ok_or_else(|| invalid("each server is host:port"))).collect::<Result<Vec<_>>>()
        };
        match scheme {
            "redis" => Client::open(url).map(|client| Origin::One(Box::new(client))).map_err(wrong),
            "redis+sentinel" => {
                if path.is_empty() || path.contains('/') {
                    return Err(invalid("after the servers comes / and the master's name"));
                }
                let servers = servers()?.into_iter().map(|(host, port)| ConnectionAddr::Tcp(host, port));
                let mut builder = SentinelClientBuilder::new(servers, path, SentinelServerType::Master).map_err(wrong)?;
                if let Some(password) = password {
                    builder = builder.set_client_to_redis_password(password);
                }
                Ok(Origin::Sentinel(Box::new(tokio::sync::Mutex::new(builder.build().map_err(wrong)?))))
            }
            "redis-cluster" => {
                let urls = servers()?.into_iter().map(|(host, port)| match host.contains(':') {
                    true => format!("redis://[{host}]:{port}/"),
                    false => format!("redis://{host}:{port}/"),
                });
                let mut builder = ClusterClientBuilder::new(urls).connection_timeout(CLUSTER_PATIENCE).response_timeout(CLUSTER_PATIENCE);
                if let Some(password) = password {
                    builder = builder.password(password);
                }
                builder.build().map(|client| Origin::Cluster(Box::new(client))).map_err(wrong)
            }
            _ => Err(invalid("it begins otherwise")),
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Origin::Cluster(_))
    }

    pub(crate) async fn connect(&self) -> RedisResult<Link> {
        match self {
            Origin::One(client) => client.get_multiplexed_async_connection().await.map(Link::One),
            Origin::Sentinel(client) => client.lock().await.get_async_connection().await.map(Link::One),
            Origin::Cluster(client) => client.get_async_connection().await.map(|connection| Link::Cluster(Box::new(connection))),
        }
    }
}

impl Link {
    pub(crate) async fn load(&self, script: &Script) -> RedisResult<()> {
        match self {
            Link::One(connection) => script.load_async(&mut connection.clone()).await.map(|_| ()),
            Link::Cluster(connection) => script.load_async(&mut (**connection).clone()).await.map(|_| ()),
        }
    }

    pub(crate) async fn run(&self, call: &ScriptInvocation<'_>) -> RedisResult<Vec<i64>> {
        match self {
            Link::One(connection) => call.invoke_async(&mut connection.clone()).await,
            Link::Cluster(connection) => call.invoke_async(&mut (**connection).clone()).await,
        }
    }

    pub(crate) async fn ping(&self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        match self {
            Link::One(connection) => ping.query_async(&mut connection.clone()).await,
            Link::Cluster(connection) => ping.query_async(&mut (**connection).clone()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_what_kind_of_redis_it_is() {
        for url in
            ["redis://127.0.0.1:6379/", "redis+sentinel://:secret@10.0.0.1:26379,[fd00::2]:26379/limits", "redis-cluster://a:7000,b:7000"]
        {
            assert!(Origin::parse(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "127.0.0.1",
            "http://127.0.0.1/",
            "redis+sentinel://a:1,b:2",
            "redis+sentinel://a:1,b/x",
            "redis-cluster://",
            "redis-cluster://a",
        ] {
            assert_eq!(Origin::parse(url).err().map(|error| error.code()), Some("limits.invalid_redis"), "{url}");
        }
    }
}
