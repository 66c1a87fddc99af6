//! How servers are reached: connection configuration, proxies, TLS, credentials, HTTP and gRPC, and
//! the retry policy.
//!
//! A sink owns an `Http` or a `Grpc` for its server. Both are set up from an `Endpoint`, and
//! both read files with credentials and certificates again when these change, so rotation needs no
//! restart. A [`DownloadClient`] gets files from a server that needs no credentials.
//!
//! Secrets leave this module only in requests: configuration hides them in `Debug`, errors name
//! files and headers without their content, and addresses are shown without user and query.

mod connection;
mod credentials;
mod download;
mod endpoint;
mod error;
mod grpc;
mod http;
#[rustfmt::skip]
#[allow(dead_code, reason = "generated")]
mod proto;
mod proxy;
mod reply;
mod responses;
pub(crate) mod retry;
mod status;
mod text;
mod tls;

pub use connection::{BasicAuth, Compression, Connection, Tls};
pub use download::{DownloadClient, DownloadError, DownloadFailure, DownloadLimits};
pub use responses::ResponseCounts;

pub(crate) use error::TransportError;
pub(crate) use grpc::{CallError, Grpc};
pub(crate) use http::{Http, StreamedBody};
pub(crate) use proto::Status as RpcStatus;
pub(crate) use reply::Reply;
pub(crate) use retry::{Disposition, FailedRequest, RetryPolicy};
pub(crate) use status::connect_code;
pub(crate) use text::shorten;
