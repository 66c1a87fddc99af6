//! A response of HTTP, and whether it holds the message that the protocol promises.
//!
//! A login page, a captive portal or a load balancer answers with a status of success too. Only the
//! content type of protobuf, with a message in the body, proves that the server has the request.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

/// Content types of protobuf messages: those of the Connect protocol and of OTLP, and the
/// registered ones.
const PROTOBUF: [&str; 4] = [
    "application/proto",
    "application/x-protobuf",
    "application/protobuf",
    "application/vnd.google.protobuf",
];

/// A response, of whatever status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub status: u16,
    /// Type of the body in lower case, without parameters; empty if the server states none.
    pub content_type: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The body; without secrets of ours unless it is a message.
    pub body: Bytes,
    /// Bytes that were sent, headers not counted.
    pub sent_bytes: u64,
}

impl Reply {
    /// Returns whether the status is one of 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns whether the server declares the body to be a protobuf message.
    pub fn is_protobuf(&self) -> bool {
        PROTOBUF.contains(&self.content_type.as_str())
    }

    /// Decodes the message of a success. An empty body is a message without fields.
    ///
    /// # Errors
    /// What the response is instead.
    pub fn message<M: Message + Default>(&self) -> Result<M, String> {
        if !self.is_protobuf() {
            let content_type = match self.content_type.as_str() {
                "" => "without a content type",
                content_type => content_type,
            };
            let text = String::from_utf8_lossy(&self.body);
            return Err(format!("{content_type} instead of a protobuf message: {text}"));
        }
        if is_text(&self.body) {
            return Err("a text declared as a protobuf message".to_owned());
        }
        M::decode(self.body.clone()).map_err(|error| format!("the message is damaged: {error}"))
    }
}

/// Returns the type of a body in lower case, without parameters such as `charset`.
pub(super) fn essence(content_type: &[u8]) -> String {
    let text = String::from_utf8_lossy(content_type);
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns whether a body is HTML, XML or JSON: some texts can be decoded, as unknown fields. The
/// messages that servers send have none of these bytes at their beginning, except as the length of
/// a message inside, which begins with a control character.
fn is_text(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    let (Some(b'<' | b'{' | b'['), Some(second)) = (body.first(), body.get(1)) else {
        return body == b"{" || body == b"<" || body == b"[";
    };
    matches!(second, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::super::proto::Status;
    use super::*;

    fn reply(content_type: &str, body: &[u8]) -> Reply {
        let body = Bytes::copy_from_slice(body);
        let content_type = essence(content_type.as_bytes());
        Reply { status: 200, content_type, retry_after: None, body, sent_bytes: 0 }
    }

    #[test]
    fn a_message_needs_its_content_type_and_a_body_that_decodes() {
        let message = Status { code: 3, message: "m".repeat(60), details: vec![] };
        let bytes = message.encode_to_vec();
        for content_type in ["application/x-protobuf", "Application/Proto; charset=utf-8"] {
            assert_eq!(reply(content_type, &bytes).message::<Status>(), Ok(message.clone()));
            assert_eq!(reply(content_type, b"").message::<Status>(), Ok(Status::default()));
        }
        for content_type in ["", "text/html", "application/json", "application/protobuf-x"] {
            assert!(reply(content_type, &bytes).message::<Status>().is_err(), "{content_type}");
            assert!(reply(content_type, b"").message::<Status>().is_err(), "{content_type}");
        }
    }

    #[test]
    fn texts_declared_as_messages_are_recognized() {
        let texts: [&[u8]; 8] = [
            b"<!DOCTYPE html><html>sign in</html>",
            b"\r\n<html>",
            b"{\"code\":16,\"message\":\"sign in\"}",
            b"{\n}",
            b"[]",
            b"{",
            b"OK",
            b"login required",
        ];
        for text in texts {
            let result = reply("application/x-protobuf", text).message::<Status>();
            assert!(result.is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn no_length_of_a_field_makes_a_message_a_text() {
        for length in 0..300 {
            let message = Status { code: 0, message: "m".repeat(length), details: vec![] };
            let outer =
                super::super::proto::Any { type_url: String::new(), value: vec![8; length] };
            let nested = Status { details: vec![outer], ..Status::default() };
            for message in [message, nested] {
                let decoded = reply("application/proto", &message.encode_to_vec()).message();
                assert_eq!(decoded, Ok(message), "{length}");
            }
        }
    }
}
