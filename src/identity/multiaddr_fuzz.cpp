// Every address that is read can be written and read again, in both forms.
#include "base/check.h"
#include "identity/multiaddr.h"

using hivemetal::identity::Multiaddr;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const auto& address : {Multiaddr::from_bytes(input), Multiaddr::parse(input)}) {
    if (!address) continue;
    HIVEMETAL_CHECK(Multiaddr::from_bytes(address->bytes()).value() == *address);
    HIVEMETAL_CHECK(Multiaddr::parse(address->text()).value() == *address);
    const auto peer = address->peer();
    HIVEMETAL_CHECK(!peer || address->with_peer(*peer).peer() == peer);
    HIVEMETAL_CHECK(address->without_peer().bytes().size() <= address->bytes().size());
    static_cast<void>(address->is_loopback());
  }
  return 0;
}
