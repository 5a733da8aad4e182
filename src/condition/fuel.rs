//! The work an evaluation may still do. A unit is about one part of an expression evaluated.

/// Bytes of text read or made for one unit.
const BYTES_PER_UNIT: usize = 32;

/// The caller's fuel, counted down and never below zero.
#[derive(Debug)]
pub(super) struct Fuel<'f>(pub(super) &'f mut u64);

/// The fuel ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Fuel<'_> {
    pub(super) fn spend(&mut self, units: u64) -> Result<(), Exhausted> {
        if let Some(rest) = self.0.checked_sub(units) {
            *self.0 = rest;
            Ok(())
        } else {
            *self.0 = 0;
            Err(Exhausted)
        }
    }

    /// Pays for reading or making a text; a short one is included in the part that does it.
    pub(super) fn spend_on_bytes(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.spend_on_items(bytes / BYTES_PER_UNIT)
    }

    /// Pays for reading or making items of a list or map.
    pub(super) fn spend_on_items(&mut self, items: usize) -> Result<(), Exhausted> {
        self.spend(u64::try_from(items).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuel_stops_at_zero() {
        let mut units = 5;
        let mut fuel = Fuel(&mut units);
        assert_eq!(fuel.spend(3), Ok(()));
        assert_eq!(fuel.spend_on_bytes(64), Ok(()));
        assert_eq!(fuel.spend(1), Err(Exhausted));
        assert_eq!(units, 0);
        let mut units = 5;
        assert_eq!(Fuel(&mut units).spend_on_items(6), Err(Exhausted));
        assert_eq!(units, 0, "what is left could not have paid for it");
    }
}
