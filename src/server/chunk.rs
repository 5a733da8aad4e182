//! Cuts lists into messages that clients accept.

use prost::Message;

/// Bytes of items in one message: clients refuse messages beyond 4 MiB unless told otherwise, and
/// smaller ones reach the reader sooner.
const MESSAGE_BYTES: usize = 1 << 20;

/// The items in the same order, in chunks of at most so many items and about so many bytes. No
/// items make one empty chunk: there is always a message to say so.
pub fn chunks<M: Message>(items: Vec<M>, max_items: usize) -> Vec<Vec<M>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for item in items {
        let size = item.encoded_len();
        match chunks.last_mut() {
            Some(last) if last.is_empty() || (last.len() < max_items && bytes + size <= MESSAGE_BYTES) => {
                bytes = if last.is_empty() { size } else { bytes + size };
                last.push(item);
            }
            _ => {
                bytes = size;
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    fn check(sizes: &[usize], max_items: usize, expected: &[usize]) {
        let item = |bytes: &usize| proto::Tuple { object: "x".repeat(*bytes), ..Default::default() };
        let cut = chunks(sizes.iter().map(item).collect(), max_items);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), expected);
        assert_eq!(cut.concat().iter().map(|tuple| tuple.object.len()).collect::<Vec<_>>(), sizes);
    }

    #[test]
    fn nothing_is_lost_and_no_message_is_too_large() {
        check(&[], 10, &[0]);
        check(&[1; 25], 10, &[10, 10, 5]);
        check(&[MESSAGE_BYTES / 2; 5], 10, &[1, 1, 1, 1, 1]);
        check(&[MESSAGE_BYTES / 3; 5], 10, &[2, 2, 1]);
        // One that is too large by itself goes alone.
        check(&[1, 2 * MESSAGE_BYTES, 1], 10, &[1, 1, 1]);
    }
}
