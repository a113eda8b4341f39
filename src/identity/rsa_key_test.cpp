#include "identity/rsa_key.h"

#include <gtest/gtest.h>

#include "identity/base64.h"

namespace hivemetal::identity {
namespace {

// The signed progress record of the wire specification, A.8: made by Hivemind, only its public half was kept.
constexpr std::string_view kOwner =
    "ssh-rsa "
    "AAAAB3NzaC1yc2EAAAADAQABAAABAQC1S1K5YTqjQ1X/efD4Spydp47My4AUYRYf22hSPQ1I9rng7Ez+9hDtA7St9sKZc/"
    "KUl6Wtyhc077rvJ"
    "Tjzn9Q78fiFTWEsmjbsey066z8Pai+tE4hFZ+iM9FlRQJtpwm3eG7bCZ88yRChirqgXLHOsuc76VLVJM4o+"
    "nenI3oWv246K62UcJSZVulr4Ps3qmklwPx"
    "lgb8UIDq3/"
    "wszW2scfW0+muHkflZ88cgCLt1fb1xgG5m6lgTaSGmRtyh+ICkSwEVvVJZBMWaHcO+"
    "Ki4apNs7DkdO6i2NuHpq673tQMTQVgB2NoTBa0VQo"
    "Nq93jlqR5w7BoJ+ta18kF8TyvehP3";
constexpr std::string_view kSignature =
    "oM75+gwZaI7B+GV6B8Z4/XVZmcbscbhWUKFNiW72Rvb3tgHNsqtMJ/rQj0z7vSYvwHA+MlFJA6m4AoZXeMJszsU3VBx6cAo6/"
    "e8bo06FRMFgpztLcFF+QE"
    "SZlnRQYkbdJLtqLkLlpJ9NRixf1cjPZVV3jG4PEOBUyaJHGHPuqkv88/"
    "SOKgYunYxEx8ouzTthel7i1kCZbJGHCRWkhJjJacUc33S316BumuPgHKOikQeo"
    "NanTF1WSctr1gl8t1N2tDWN4OAQLNogcWcgodCtMcy/"
    "KmpTPINErP1uJ3LE4zkUGHleBKbKcL70ipW41+XxdH3gU+mcOaytfhiCMlPnHyA==";
constexpr std::string_view kKeyId = "d05aa0b3f6dcaadca941b4772b49feb15569ee17";
constexpr std::string_view kValue =
    "86a7706565725f6964c4260024080112202cf45acaab95c979935be76e0175b82fbc65a6aabebfe56ce15f3f4c4e3e803ba56570"
    "6f636803b373616d"
    "706c65735f616363756d756c61746564cc80b273616d706c65735f7065725f7365636f6e64cb4029000000000000a474696d65cb"
    "41d954fc40100000"
    "ab636c69656e745f6d6f6465c2";

// What is signed: the tuple (key id, tag, value, expiration) in MessagePack.
Bytes signed_bytes(std::string_view expiration_hex) {
  const Bytes tag = from_hex("c50184").value() + "[owner:" + std::string(kOwner) + "]";
  return from_hex("c802314094c414" + std::string(kKeyId) + "c50187").value() + tag +
         from_hex("c485" + std::string(kValue) + "cb" + std::string(expiration_hex)).value();
}

TEST(RsaKey, VerifiesARecordThatHivemindSigned) {
  const Bytes signature = base64_decode(kSignature).value();
  ASSERT_EQ(signed_bytes("41d954fc4f100000").size(), 565u);
  EXPECT_TRUE(verify_pss(kOwner, signed_bytes("41d954fc4f100000"), signature));
  EXPECT_TRUE(verify_pss(std::string(kOwner) + " comment", signed_bytes("41d954fc4f100000"), signature));
  EXPECT_FALSE(verify_pss(kOwner, signed_bytes("41d954fc4f200000"), signature)) << "1700000060.5";
  EXPECT_FALSE(verify_pss(kOwner, signed_bytes("41d954fc4f100000"), signature.substr(1)));
  EXPECT_FALSE(verify_pss(kOwner, signed_bytes("41d954fc4f100000"), ""));
}

TEST(RsaKey, SignsWhatItVerifies) {
  const auto key = RsaKey::generate();
  EXPECT_EQ(key.openssh_text().size(), 380u);
  EXPECT_TRUE(key.openssh_text().starts_with("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ"));
  const Bytes signature = key.sign_pss("message");
  EXPECT_EQ(signature.size(), 256u);
  EXPECT_TRUE(verify_pss(key.openssh_text(), "message", signature));
  EXPECT_FALSE(verify_pss(key.openssh_text(), "massage", signature));
  EXPECT_FALSE(verify_pss(kOwner, "message", signature));
}

TEST(RsaKey, RefusesTextThatIsNoKey) {
  const Bytes signature(256, 'x');
  const std::string cut(kOwner.substr(0, 104));
  for (const std::string_view text :
       {"", "ssh-rsa", "ssh-rsa ", "ssh-rsa !", "ssh-ed25519 AAAA", "ssh-rsa AAAA",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAA==", cut.c_str()}) {
    EXPECT_FALSE(verify_pss(text, "message", signature)) << text;
  }
}

}  // namespace
}  // namespace hivemetal::identity
