// RSA keys of Hivemind's signed DHT records: 2048 bits, e = 65537, named by their OpenSSH text. They are made
// for a process and forgotten with it; a node's identity is its Ed25519 key (keys.h).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal::identity {

class RsaKey {
 public:
  // A new key; takes about 0.1 s.
  static RsaKey generate();

  RsaKey(RsaKey&&) noexcept;
  RsaKey& operator=(RsaKey&&) noexcept;
  ~RsaKey();

  // `ssh-rsa AAAA…`, without comment and line end.
  const std::string& openssh_text() const { return openssh_text_; }

  // 256 bytes: RSASSA-PSS with SHA-256, MGF1-SHA-256 and the longest salt.
  Bytes sign_pss(std::string_view message) const;

 private:
  struct Key;
  explicit RsaKey(std::unique_ptr<Key> key);

  std::unique_ptr<Key> key_;
  std::string openssh_text_;
};

// True if `signature` (raw bytes) is one of the key `openssh_text` for `message`, made as by
// RsaKey::sign_pss. False also for text that is no `ssh-rsa` key of 2048 to 8192 bits.
bool verify_pss(std::string_view openssh_text, std::string_view message, std::string_view signature);

}  // namespace hivemetal::identity
