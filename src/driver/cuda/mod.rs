//! stub
use super::*;
/// stub
pub struct Gpu;
impl Gpu {
    /// stub
    pub fn open(_ordinal: usize) -> Result<Gpu, Error> {
        Err(Error::Device { device: "cuda".into(), action: "open", reason: "no driver".into() })
    }
}
impl Driver for Gpu {
    type Buffer = ();
    type Graph = ();
    type Event = ();
    fn properties(&self) -> &Properties {
        todo!()
    }
    fn free_bytes(&self) -> Result<usize, Error> {
        todo!()
    }
    fn allocate(&self, _: usize) -> Result<(), Error> {
        todo!()
    }
    fn address(&self, _: &()) -> u64 {
        todo!()
    }
    fn bytes(&self, _: &()) -> usize {
        todo!()
    }
    fn upload(&self, _: &[u8], _: &mut (), _: usize) -> Result<(), Error> {
        todo!()
    }
    fn download(&self, _: &(), _: usize, _: &mut [u8]) -> Result<(), Error> {
        todo!()
    }
    fn clear(&self, _: &mut ()) -> Result<(), Error> {
        todo!()
    }
    fn launch<A: Copy + 'static>(&self, _: &Kernel<A>, _: Launch, _: A) -> Result<(), Error> {
        todo!()
    }
    fn begin_recording(&self) -> Result<(), Error> {
        todo!()
    }
    fn end_recording(&self) -> Result<(), Error> {
        todo!()
    }
    fn replay(&self, _: &()) -> Result<(), Error> {
        todo!()
    }
    fn event(&self) -> Result<(), Error> {
        todo!()
    }
    fn elapsed(&self, _: &(), _: &()) -> Result<f64, Error> {
        todo!()
    }
    fn synchronize(&self) -> Result<(), Error> {
        todo!()
    }
}
