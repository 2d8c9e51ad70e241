//! A broken rule in words, which end the kernel.

use super::{Access, Check, GRID, RUN, THREAD};
use crate::device::emulated::memory::Region;
use crate::device::emulated::thread::stop;

impl Check {
    /// A place in words.
    fn place(&self, offset: usize, global: bool) -> String {
        if !global {
            // SAFETY: as in `access`.
            return unsafe { (*self.block).shared.name(offset) };
        }
        match self.regions.get(self.last) {
            Some(region) => format!("byte {offset} of {}", self.name(region)),
            None => "no buffer".into(),
        }
    }

    /// A buffer by its size and the argument that leads to it.
    fn name(&self, region: &Region) -> String {
        let freed = if region.shadow.is_none() { "freed " } else { "" };
        let args = &self.exempt[0];
        let argument = args.clone().step_by(8).find(|&word| {
            // SAFETY: the arguments are whole 8-byte words.
            let pointer = unsafe { *(word as *const usize) };
            (region.start..region.start + region.bytes.max(1)).contains(&pointer)
        });
        let argument = match argument {
            Some(word) => format!(" at byte {} of the arguments", word - args.start),
            None => String::new(),
        };
        format!("the {freed}buffer of {} bytes{argument}", region.bytes)
    }

    #[cold]
    pub(super) fn outside(&self, address: usize, bytes: usize, access: Access) -> ! {
        let verb = access.verb();
        if self.shared.contains(&address) {
            let place = self.place(address - self.shared.start, false);
            self.stop(format!("{verb} {bytes} bytes outside shared memory, at {place}"));
        }
        let above = self.regions.partition_point(|region| region.start <= address);
        let near = |region: &&Region| {
            let end = region.start + region.bytes;
            address + (1 << 20) > region.start && address < end + (1 << 20)
        };
        let (below, above) =
            (above.checked_sub(1).and_then(|i| self.regions.get(i)), self.regions.get(above));
        let distance = |region: &&Region| {
            region.start.abs_diff(address).min((region.start + region.bytes).abs_diff(address))
        };
        let nearest = [below, above].into_iter().flatten().filter(near).min_by_key(distance);
        let place = match nearest {
            Some(region) => {
                let offset = address.wrapping_sub(region.start) as isize;
                format!("at byte {offset} of {}", self.name(region))
            }
            None => format!("at address {address:#x}"),
        };
        self.stop(format!("{verb} {bytes} bytes outside every buffer, {place}"))
    }

    #[cold]
    pub(super) fn fault(&self, offset: usize, global: bool, access: Access, bytes: usize, why: &str) -> ! {
        let place = self.place(offset, global);
        self.stop(format!("{} {bytes} bytes, at {place}, {why}", access.verb()))
    }

    #[cold]
    pub(super) fn race(
        &self,
        offset: usize,
        global: bool,
        access: Access,
        bytes: usize,
        other: u64,
        did: &str,
    ) -> ! {
        let thread = (other >> THREAD) & 1023;
        let who = if other & 3 == GRID || other >> RUN != self.run {
            format!("which another block of the launch {did} too")
        } else {
            format!("which thread {thread} {did} too, without a barrier between them")
        };
        self.fault(offset, global, access, bytes, &who)
    }

    pub(in crate::device::emulated) fn stop(&self, message: String) -> ! {
        stop(self.running, message)
    }
}

impl Access {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Access::Read => "reads",
            Access::Write => "writes",
            Access::Atomic => "changes",
            Access::CopyBegins | Access::CopyEnds => "copies",
        }
    }
}
