//! What a layer that shows a part of another one does not change.

#![forbid(unsafe_code)]

/// The methods of [`super::Layer`] that pass a question about one node on to `inner`, whose entry
/// for it the expression gives.
macro_rules! delegate_nodes {
    ($self:ident, $entry:ident => $inward:expr) => {
        fn version(&$self) -> String {
            $self.inner.version()
        }

        fn is_live(&$self) -> bool {
            $self.inner.is_live()
        }

        fn metadata(&$self, $entry: Entry) -> Result<Metadata> {
            $self.inner.metadata($inward)
        }

        fn read(&$self, $entry: Entry, offset: u64, buffer: &mut [u8]) -> Result<usize> {
            $self.inner.read($inward, offset, buffer)
        }

        fn read_to(
            &$self,
            $entry: Entry,
            offset: u64,
            length: u64,
            sink: &mut dyn DataSink,
        ) -> Result<()> {
            $self.inner.read_to($inward, offset, length, sink)
        }

        fn read_link(&$self, $entry: Entry) -> Result<Vec<u8>> {
            $self.inner.read_link($inward)
        }

        fn xattrs(&$self, $entry: Entry) -> Result<Xattrs> {
            $self.inner.xattrs($inward)
        }

        fn has_xattrs(&$self, $entry: Entry) -> Result<bool> {
            $self.inner.has_xattrs($inward)
        }

        fn next_data(&$self, $entry: Entry, offset: u64) -> Result<Option<DataRun>> {
            $self.inner.next_data($inward, offset)
        }

        fn data_bytes(&$self, $entry: Entry) -> Result<u64> {
            $self.inner.data_bytes($inward)
        }

        fn whiteout(&$self, $entry: Entry, name: &[u8]) -> Result<Option<Whiteout>> {
            $self.inner.whiteout($inward, name)
        }

        fn is_opaque(&$self, $entry: Entry) -> Result<bool> {
            $self.inner.is_opaque($inward)
        }

        fn is_implied(&$self, $entry: Entry) -> Result<bool> {
            $self.inner.is_implied($inward)
        }

        fn digest(&$self, $entry: Entry) -> Result<Option<[u8; 32]>> {
            $self.inner.digest($inward)
        }

        fn identity(&$self, $entry: Entry) -> Result<Option<Identity>> {
            $self.inner.identity($inward)
        }
    };
}

pub(super) use delegate_nodes;
