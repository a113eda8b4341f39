#include "identity/multiaddr.h"

#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstdint>
#include <fmt/format.h>

#include "base/check.h"
#include "base/uvarint.h"

namespace hivemetal::identity {

namespace {

constexpr std::size_t kBytesMax = 1024;
constexpr std::size_t kTextMax = 8 * kBytesMax;  // two bytes can stand for "/p2p-circuit"
constexpr std::size_t kNameMax = 253;            // of a DNS name
constexpr std::size_t kUnixPathMax = 107;        // of sockaddr_un, less the zero at its end

enum class Value { None, Ip4, Ip6, Port, Name, Path, Peer };

struct Protocol {
  std::uint32_t code;
  std::string_view name;
  Value value;
};

constexpr std::uint32_t kP2p = 421;
constexpr std::uint32_t kIp4 = 4;
constexpr std::uint32_t kIp6 = 41;

// multiformats/multiaddr, protocols.csv
constexpr std::array kProtocols = {
    Protocol{kIp4, "ip4", Value::Ip4},         Protocol{6, "tcp", Value::Port},
    Protocol{kIp6, "ip6", Value::Ip6},         Protocol{53, "dns", Value::Name},
    Protocol{54, "dns4", Value::Name},         Protocol{55, "dns6", Value::Name},
    Protocol{56, "dnsaddr", Value::Name},      Protocol{273, "udp", Value::Port},
    Protocol{290, "p2p-circuit", Value::None}, Protocol{400, "unix", Value::Path},
    Protocol{kP2p, "p2p", Value::Peer},        Protocol{448, "tls", Value::None},
    Protocol{460, "quic", Value::None},        Protocol{461, "quic-v1", Value::None},
    Protocol{477, "ws", Value::None},          Protocol{478, "wss", Value::None},
};

const Protocol* find_protocol(std::uint32_t code) {
  for (const auto& protocol : kProtocols) {
    if (protocol.code == code) return &protocol;
  }
  return nullptr;
}

const Protocol* find_protocol(std::string_view name) {
  if (name == "ipfs") name = "p2p";  // its name of old
  for (const auto& protocol : kProtocols) {
    if (protocol.name == name) return &protocol;
  }
  return nullptr;
}

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }

// The next uvarint of up to 32 bits, cut from the front of `bytes`.
std::optional<std::uint32_t> take_uint32(std::string_view& bytes) {
  const auto value = take_uvarint(bytes);
  if (!value || !*value || **value > UINT32_MAX) return std::nullopt;
  return static_cast<std::uint32_t>(**value);
}

// True for a name that fits into the text form: printable ASCII without '/'.
bool is_name(std::string_view name) {
  if (name.empty() || name.size() > kNameMax) return false;
  for (const char c : name) {
    if (c <= ' ' || c >= 0x7f || c == '/') return false;
  }
  return true;
}

// True for an absolute path that survives a walk through the text form.
bool is_path(std::string_view path) {
  return path.size() >= 2 && path.size() <= kUnixPathMax && path[0] == '/' && path.back() != '/' &&
         path.find('\0') == std::string_view::npos;
}

// Python's libp2p writes a peer id as CIDv1 `01 72 ‖ multihash`, Go's as the bare multihash.
Result<PeerId> peer_of(std::string_view bytes) {
  if (bytes.starts_with("\x01\x72")) bytes.remove_prefix(2);
  return PeerId::from_bytes(bytes);
}

// The binary value of one component of the text form, without a length in front.
Result<Bytes> value_from_text(const Protocol& protocol, std::string_view text) {
  const auto wrong = [&](std::string_view wanted) {
    return invalid(fmt::format("/{}/{}: '{}' is no {}", protocol.name, text, text, wanted));
  };
  switch (protocol.value) {
    case Value::None:
      return Bytes();
    case Value::Ip4: {
      Bytes bytes(4, '\0');
      if (inet_pton(AF_INET, std::string(text).c_str(), bytes.data()) != 1) return wrong("IPv4 address");
      return bytes;
    }
    case Value::Ip6: {
      Bytes bytes(16, '\0');
      if (inet_pton(AF_INET6, std::string(text).c_str(), bytes.data()) != 1) return wrong("IPv6 address");
      return bytes;
    }
    case Value::Port: {
      std::uint16_t port = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
      if (error != std::errc() || end != text.data() + text.size()) return wrong("port (0 to 65535)");
      return Bytes{static_cast<char>(port >> 8), static_cast<char>(port & 0xff)};
    }
    case Value::Name:
      if (!is_name(text)) return wrong("host name");
      return Bytes(text);
    case Value::Path:
      if (!is_path(text)) return wrong(fmt::format("path of 1 to {} bytes", kUnixPathMax));
      return Bytes(text);
    case Value::Peer: {
      const auto peer = PeerId::from_base58(text);
      if (!peer) return peer.error().within("/p2p");
      return peer->bytes();
    }
  }
  return invalid("unknown kind of value");
}

// The size of a fixed-size value, or nullopt for one with its length in front.
std::optional<std::size_t> fixed_size(Value value) {
  switch (value) {
    case Value::None:
      return 0;
    case Value::Port:
      return 2;
    case Value::Ip4:
      return 4;
    case Value::Ip6:
      return 16;
    default:
      return std::nullopt;
  }
}

std::string value_to_text(Value kind, std::string_view value) {
  switch (kind) {
    case Value::None:
      return "";
    case Value::Port:
      return fmt::format("/{}",
                         static_cast<unsigned char>(value[0]) << 8 | static_cast<unsigned char>(value[1]));
    case Value::Ip4:
    case Value::Ip6: {
      std::array<char, INET6_ADDRSTRLEN> text{};
      inet_ntop(kind == Value::Ip4 ? AF_INET : AF_INET6, value.data(), text.data(), text.size());
      return fmt::format("/{}", text.data());
    }
    case Value::Name:
      return fmt::format("/{}", value);
    case Value::Path:
      return std::string(value);  // starts with a slash itself
    case Value::Peer:
      return "/" + PeerId::from_bytes(value)->base58();
  }
  return "";
}

void append_component(Bytes& out, const Protocol& protocol, std::string_view value) {
  append_uvarint(out, protocol.code);
  if (!fixed_size(protocol.value)) append_uvarint(out, value.size());
  out += value;
}

struct Component {
  const Protocol* protocol;
  std::string_view value;
};

// The next component, cut from the front of `bytes`; its value is unchecked but for its size.
Result<Component> take_component(std::string_view& bytes) {
  const auto code = take_uint32(bytes);
  if (!code) return invalid("a truncated protocol code");
  const Protocol* protocol = find_protocol(*code);
  if (protocol == nullptr) return invalid(fmt::format("protocol code {} is unknown here", *code));
  auto size = fixed_size(protocol->value);
  if (!size) {
    const auto prefix = take_uint32(bytes);
    if (!prefix) return invalid(fmt::format("/{}: a truncated length", protocol->name));
    size = *prefix;
  }
  if (*size > bytes.size()) {
    return invalid(fmt::format("/{}: {} bytes announced, {} there", protocol->name, *size, bytes.size()));
  }
  const Component component{protocol, bytes.substr(0, *size)};
  bytes.remove_prefix(*size);
  return component;
}

// Calls `visit` with each component of a valid address and the bytes that follow it.
template <class Visit>
void each_component(std::string_view bytes, Visit visit) {
  while (!bytes.empty()) {
    const auto component = take_component(bytes);
    HIVEMETAL_CHECK(component.has_value());
    visit(*component, bytes);
  }
}

}  // namespace

Result<Multiaddr> Multiaddr::parse(std::string_view text) {
  if (text.size() > kTextMax) return invalid(fmt::format("an address of {} characters", text.size()));
  if (text.empty() || text[0] != '/') {
    return invalid(fmt::format(
        "'{}' is no multiaddress; one looks like /ip4/203.0.113.1/tcp/31337/p2p/12D3KooW…", text));
  }
  std::string_view rest = text;
  if (rest.ends_with('/') && rest.size() > 1) rest.remove_suffix(1);
  const auto take_word = [&rest]() {
    rest.remove_prefix(1);  // the slash
    const auto word = rest.substr(0, rest.find('/'));
    rest.remove_prefix(word.size());
    return word;
  };

  Multiaddr address;
  while (!rest.empty()) {
    const auto name = take_word();
    const Protocol* protocol = find_protocol(name);
    if (protocol == nullptr) return invalid(fmt::format("/{} in '{}' is no protocol known here", name, text));
    std::string_view value;
    if (protocol->value != Value::None) {
      if (rest.empty()) return invalid(fmt::format("/{} in '{}' lacks its value", name, text));
      value = protocol->value == Value::Path ? std::exchange(rest, {}) : take_word();
    }
    const auto bytes = value_from_text(*protocol, value);
    if (!bytes) return bytes.error();
    append_component(address.bytes_, *protocol, *bytes);
    if (address.bytes_.size() > kBytesMax) return invalid("an address of more than 1 KiB");
  }
  return address;
}

Result<Multiaddr> Multiaddr::from_bytes(std::string_view bytes) {
  if (bytes.empty()) return invalid("an address of no bytes");
  if (bytes.size() > kBytesMax) return invalid(fmt::format("an address of {} bytes", bytes.size()));
  Multiaddr address;
  while (!bytes.empty()) {
    const auto component = take_component(bytes);
    if (!component) return component.error();
    const auto& [protocol, value] = *component;
    if (protocol->value == Value::Name && !is_name(value)) {
      return invalid(fmt::format("/{}: no host name", protocol->name));
    }
    if (protocol->value == Value::Path && (!is_path(value) || !bytes.empty())) {
      return invalid(fmt::format("/{}: no path, or more behind it", protocol->name));
    }
    if (protocol->value == Value::Peer) {
      const auto peer = peer_of(value);
      if (!peer) return peer.error().within("/p2p");
      append_component(address.bytes_, *protocol, peer->bytes());
    } else {
      append_component(address.bytes_, *protocol, value);
    }
  }
  return address;
}

std::string Multiaddr::text() const {
  std::string text;
  each_component(bytes_, [&](const Component& component, std::string_view) {
    text += fmt::format("/{}", component.protocol->name);
    text += value_to_text(component.protocol->value, component.value);
  });
  return text;
}

std::optional<PeerId> Multiaddr::peer() const {
  std::optional<PeerId> peer;
  each_component(bytes_, [&](const Component& component, std::string_view) {
    if (component.protocol->code == kP2p) peer = *PeerId::from_bytes(component.value);
  });
  return peer;
}

Multiaddr Multiaddr::without_peer() const {
  std::size_t begin = 0;  // of the current component
  std::size_t size = bytes_.size();
  each_component(bytes_, [&](const Component& component, std::string_view rest) {
    if (rest.empty() && component.protocol->code == kP2p) size = begin;
    begin = bytes_.size() - rest.size();
  });
  Multiaddr address;
  address.bytes_ = bytes_.substr(0, size);
  return address;
}

Multiaddr Multiaddr::with_peer(const PeerId& peer) const {
  HIVEMETAL_CHECK(!peer.empty());
  Multiaddr address = without_peer();
  append_component(address.bytes_, *find_protocol(kP2p), peer.bytes());
  return address;
}

bool Multiaddr::is_loopback() const {
  if (bytes_.empty()) return false;
  std::string_view rest = bytes_;
  const auto first = take_component(rest);
  HIVEMETAL_CHECK(first.has_value());
  if (first->protocol->code == kIp4) return first->value[0] == 127;
  if (first->protocol->code != kIp6) return false;
  static constexpr std::string_view kOne("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
  return first->value == kOne;
}

}  // namespace hivemetal::identity
