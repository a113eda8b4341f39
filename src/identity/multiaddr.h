// Multiaddresses: `/ip4/203.0.113.1/tcp/31337/p2p/12D3KooW…` and their binary form.
// Source: multiformats/multiaddr, protocols.csv; the codes are in the list of multiaddr.cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "identity/peer_id.h"

namespace hivemetal::identity {

class Multiaddr {
 public:
  Multiaddr() = default;

  // Fails with Invalid, naming the component that is unknown, lacks its value or has a wrong one.
  static Result<Multiaddr> parse(std::string_view text);
  static Result<Multiaddr> from_bytes(std::string_view bytes);

  std::string text() const;
  const Bytes& bytes() const { return bytes_; }

  // The peer id of the last /p2p component, if there is one.
  std::optional<PeerId> peer() const;

  // The address less its trailing /p2p component; the address with one.
  Multiaddr without_peer() const;
  Multiaddr with_peer(const PeerId& peer) const;

  // True for 127.0.0.0/8 and ::1.
  bool is_loopback() const;

  friend bool operator==(const Multiaddr&, const Multiaddr&) = default;
  friend auto operator<=>(const Multiaddr&, const Multiaddr&) = default;

 private:
  Bytes bytes_;
};

}  // namespace hivemetal::identity
