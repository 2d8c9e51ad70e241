//! Reads what `ptxas -v` says of the functions it compiled.

/// What a function takes.
#[derive(Debug, PartialEq)]
pub struct Usage {
    /// Mangled, unless it is a kernel.
    pub function: String,
    /// Registers of a thread; none for a function that kernels call.
    pub registers: Option<u32>,
    /// Bytes of a thread's stack frame.
    pub stack: u32,
    /// Bytes.
    pub spill_stores: u32,
    /// Bytes.
    pub spill_loads: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

/// The functions in a report. A line that is not as expected is passed over, so a function may be missing:
/// whoever knows the kernels checks that all are there.
pub fn parse(report: &str) -> Vec<Usage> {
    let mut found: Vec<Usage> = vec![];
    for line in report.lines() {
        let said =
            line.strip_prefix("ptxas info").map_or(line, |rest| rest.trim_start_matches([' ', ':'])).trim();
        if let Some(function) = said.strip_prefix("Function properties for ") {
            let function = function.to_string();
            found.push(Usage {
                function,
                registers: None,
                stack: 0,
                spill_stores: 0,
                spill_loads: 0,
                shared: 0,
            });
        }
        let Some(usage) = found.last_mut() else { continue };
        let amounts = || said.split(", ").filter_map(amount);
        if said.contains(" bytes stack frame") {
            for (count, of) in amounts() {
                match of {
                    "bytes stack frame" => usage.stack = count,
                    "bytes spill stores" => usage.spill_stores = count,
                    "bytes spill loads" => usage.spill_loads = count,
                    _ => {}
                }
            }
        } else if let Some(("registers", count)) = said
            .strip_prefix("Used ")
            .and_then(|rest| amount(rest.split(", ").next()?))
            .map(|(n, of)| (of, n))
        {
            usage.registers = Some(count);
            usage.shared = amounts().find(|(_, of)| *of == "bytes smem").map_or(0, |(bytes, _)| bytes);
        }
    }
    found
}

/// (8, "bytes smem") of "8 bytes smem".
fn amount(words: &str) -> Option<(u32, &str)> {
    let (count, of) = words.split_once(' ')?;
    Some((count.parse().ok()?, of))
}
