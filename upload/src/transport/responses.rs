//! Responses of a server, counted by their code.

use std::collections::BTreeMap;

use tonic::Code;

use super::status::name_of;

/// Statuses of HTTP that are counted each on its own; a server may answer with any number.
const STATUSES: [(u16, &str); 32] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (402, "402"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (407, "407"),
    (408, "408"),
    (409, "409"),
    (411, "411"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (505, "505"),
    (507, "507"),
    (511, "511"),
];

/// Numbers of responses by code: a status of HTTP, the name of a code of gRPC, or `other`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseCounts(BTreeMap<&'static str, u64>);

impl ResponseCounts {
    /// Returns the codes that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(code, count)| (*code, *count))
    }

    /// Returns the count of one code.
    pub fn count(&self, code: &str) -> u64 {
        self.0.get(code).copied().unwrap_or_default()
    }

    /// Adds the counts of another.
    pub(crate) fn add(&mut self, other: &Self) {
        other.iter().for_each(|(code, count)| *self.0.entry(code).or_default() += count);
    }

    /// Counts a response of HTTP.
    pub(super) fn add_status(&mut self, status: u16) {
        let known = STATUSES.iter().find(|(number, _)| *number == status);
        *self.0.entry(known.map_or("other", |(_, text)| *text)).or_default() += 1;
    }

    /// Counts a response of gRPC.
    pub(super) fn add_code(&mut self, code: Code) {
        *self.0.entry(name_of(code)).or_default() += 1;
    }
}

/// Collects codes and their counts.
impl FromIterator<(&'static str, u64)> for ResponseCounts {
    fn from_iter<I: IntoIterator<Item = (&'static str, u64)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_counted_and_their_number_is_bounded() {
        let mut counts = ResponseCounts::default();
        (100..1_000).for_each(|status| counts.add_status(status));
        (0..17).for_each(|code| counts.add_code(Code::from_i32(code)));
        assert_eq!(counts.iter().count(), STATUSES.len() + 1 + 17);
        assert_eq!((counts.count("500"), counts.count("INTERNAL")), (1, 1));
        assert_eq!(counts.count("other"), 900 - STATUSES.len() as u64);
        let mut sum = counts.clone();
        sum.add(&counts);
        assert_eq!(sum.count("500"), 2);
    }

    #[test]
    fn each_status_is_shown_as_its_number() {
        assert!(STATUSES.iter().all(|(number, text)| number.to_string() == *text));
    }
}
