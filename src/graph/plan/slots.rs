//! Gives values whose lives do not overlap the same buffer.

/// An activation or gradient, alive from its first write to its last use in a count of steps.
pub(super) struct Value {
    pub elements: usize,
    pub first: usize,
    pub last: usize,
}

/// Returns the elements of each buffer, and the buffer of each value. Values are placed largest first, so
/// that a buffer is as large as the first value in it and small values fill the gaps.
pub(super) fn assign(values: &[Value]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&v| std::cmp::Reverse(values[v].elements));
    let (mut slots, mut tenants, mut place) = (vec![], Vec::<Vec<usize>>::new(), vec![0; values.len()]);
    for v in order {
        let apart = |&t: &usize| values[t].last < values[v].first || values[v].last < values[t].first;
        let slot = tenants.iter().position(|t| t.iter().all(apart)).unwrap_or_else(|| {
            slots.push(values[v].elements);
            tenants.push(vec![]);
            slots.len() - 1
        });
        tenants[slot].push(v);
        place[v] = slot;
    }
    (slots, place)
}
