// A capacity record from a stranger: under a wrong signature, and with a right one around any payload.
#include "scheduler/capacity.h"
#include "wire/msgpack.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace hivemetal;
  static const auto key = identity::PrivateKey::from_seed(std::string(32, '\x01')).value();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)scheduler::decode_capacity(bytes, "home", key.peer_id(), 0);

  Bytes text = "hivemetal-capacity-1";
  text += '\0';
  text += "home";
  text += '\0';
  text += key.peer_id().bytes();
  text += bytes;
  const Bytes record = wire::encode(
      wire::Value(wire::Array{wire::Value::bin(Bytes(bytes)), wire::Value::bin(key.sign(text))}));
  (void)scheduler::decode_capacity(record, "home", key.peer_id(), 0);
  return 0;
}
