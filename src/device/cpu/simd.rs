//! Plain loops compiled for the widest vectors of the machine at hand.

use pulp::{Arch, NullaryFnOnce};

/// Runs `body`, whose loops the compiler vectorises, in the version for this machine. `body` and what it
/// calls must be `#[inline(always)]`: only what is inlined is compiled for each instruction set.
pub fn vectorised(body: impl FnMut()) {
    struct Call<F>(F);
    // FnMut rather than FnOnce: a closure's call_once may be a shim that is not inlined.
    impl<F: FnMut()> NullaryFnOnce for Call<F> {
        type Output = ();
        #[inline(always)]
        fn call(mut self) {
            (self.0)();
        }
    }
    Arch::new().dispatch(Call(body));
}
