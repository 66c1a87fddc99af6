//! How servers are reached: settings, TLS, credentials, proxies, HTTP and gRPC, and what answers mean.
//!
//! A sink keeps one `Http` or one `Grpc` for its server, made of a [`Connection`]. Both read the files of
//! credentials and certificates anew when these change, so that who rotates them need not tell the agent.
//!
//! No secret leaves this folder but in a request: settings show none in `Debug`, errors name files and headers,
//! never what is in them, and addresses are shown without user and query.

mod classify;
mod connection;
mod connector;
mod credentials;
mod grpc;
mod http;
mod lane;
mod proxy;
mod tls;
mod verdict;

pub use connection::{BasicAuth, Compression, Connection, Tls};

pub(crate) use classify::TransportError;
pub(crate) use grpc::{CallError, Grpc};
pub(crate) use http::{Http, PutBody, Reply};
pub(crate) use verdict::{RpcStatus, Rules, Verdict, of_call, of_reply, shorten};
