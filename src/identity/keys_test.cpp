#include "identity/keys.h"

#include <fstream>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "identity/rsa_key.h"

namespace hivemetal::identity {
namespace {

namespace fs = std::filesystem;

class KeyFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "hivemetal-keys-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_;
};

// RFC 8032, section 7.1, tests 1 and 2.
TEST(Keys, SignsAsTheVectorsOfRfc8032) {
  const auto first = PrivateKey::from_seed(
                         from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").value())
                         .value();
  EXPECT_EQ(to_hex(first.sign("")),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b");
  const auto second =
      PrivateKey::from_seed(
          from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").value())
          .value();
  EXPECT_EQ(to_hex(second.sign("\x72")),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00");
  EXPECT_TRUE(second.public_key().verify("\x72", second.sign("\x72")));
  EXPECT_FALSE(second.public_key().verify("\x73", second.sign("\x72")));
  EXPECT_FALSE(second.public_key().verify("\x72", second.sign("\x72").substr(1)));
  EXPECT_FALSE(second.public_key().verify("\x72", ""));
}

TEST(Keys, HaveTheProtobufAndPeerIdOfTheLibp2pSpecification) {
  const auto bytes =
      from_hex("080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e").value();
  const auto key = PublicKey::from_protobuf(bytes).value();
  EXPECT_EQ(key.protobuf(), bytes);
  EXPECT_EQ(key.peer_id().base58(), "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq");
  EXPECT_EQ(PublicKey::from_peer_id(key.peer_id()).value().protobuf(), bytes);
}

TEST(Keys, HaveTheIdsOfTheRecordedHandshake) {  // wire specification, C.3
  EXPECT_EQ(PrivateKey::from_seed(Bytes(32, 1)).value().peer_id().base58(),
            "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5");
  EXPECT_EQ(PrivateKey::from_seed(Bytes(32, 4)).value().peer_id().base58(),
            "12D3KooWPT98FXMfDQYavZm66EeVjTqP9Nnehn1gyaydqV8L8BQw");
}

TEST(Keys, VerifyTheSignatureOfTheRecordedHandshake) {  // wire specification, C.3, payload of message 2
  const auto key =
      PublicKey::from_protobuf(
          from_hex("08011220ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c").value())
          .value();
  const Bytes static_key =
      from_hex("50a61409b1ddd0325e9b16b700e719e9772c07000b1bd7786e907c653d20495d").value();
  const Bytes signature = from_hex(
                              "0eac8c04bef6c76be39146652426d65487478f77d527a5a8c9b1bcf981c210f5"
                              "617219458e690102cf5c2e61d0640e91fe7f697a6f8a827251ee1d0522b8890a")
                              .value();
  EXPECT_TRUE(key.verify("noise-libp2p-static-key:" + static_key, signature));
  EXPECT_FALSE(key.verify("noise-libp2p-static-key:" + Bytes(32, 0), signature));
}

// The did:key method's own vector of an Ed25519 key.
TEST(Keys, ReadAndWriteDidKey) {
  const std::string did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
  const auto key = PublicKey::from_did_key(did).value();
  EXPECT_EQ(to_hex(key.protobuf()),
            "080112203b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29");
  EXPECT_EQ(key.did_key(), did);
  for (const std::string_view wrong : {"", "did:key:", "did:key:z", "did:key:z6Mk", "did:web:z6MkiTBz",
                                       "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"}) {
    EXPECT_EQ(PublicKey::from_did_key(wrong).error().code, ErrorCode::Invalid) << wrong;
  }
}

TEST(Keys, HaveTheKeyFileOfLibp2p) {
  const auto key = PrivateKey::from_seed(Bytes(32, 1)).value();
  EXPECT_EQ(to_hex(key.protobuf()),
            "08011240" + to_hex(Bytes(32, 1)) + to_hex(key.public_key().protobuf().substr(4)));
  EXPECT_EQ(PrivateKey::from_protobuf(key.protobuf()).value().peer_id(), key.peer_id());
}

TEST(Keys, RefusePrivateKeysThatAreNone) {
  Bytes bytes = PrivateKey::from_seed(Bytes(32, 1)).value().protobuf();
  EXPECT_EQ(PrivateKey::from_protobuf("").error().code, ErrorCode::Invalid);
  EXPECT_EQ(PrivateKey::from_protobuf(bytes.substr(0, 40)).error().code, ErrorCode::Invalid);
  bytes.back() ^= 1;
  EXPECT_EQ(PrivateKey::from_protobuf(bytes).error().message,
            "an Ed25519 private key whose two halves do not belong together");
  EXPECT_EQ(PrivateKey::from_protobuf(from_hex("08001201aa").value()).error().message,
            "a private key of type RSA; a node's key is Ed25519");
  EXPECT_EQ(PrivateKey::from_seed("short").error().code, ErrorCode::Invalid);
}

TEST_F(KeyFile, IsWrittenForItsOwnerAloneAndReadBack) {
  const auto key = PrivateKey::generate();
  ASSERT_TRUE(key.save(folder_ / "identity.key").has_value());
  struct stat status{};
  ASSERT_EQ(::stat((folder_ / "identity.key").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(PrivateKey::load(folder_ / "identity.key").value().peer_id(), key.peer_id());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(KeyFile, IsRefusedWhenOthersCanReadIt) {
  const auto file = folder_ / "identity.key";
  ASSERT_TRUE(PrivateKey::generate().save(file).has_value());
  ASSERT_EQ(::chmod(file.c_str(), 0640), 0);
  const auto error = PrivateKey::load(file).error();
  EXPECT_EQ(error.code, ErrorCode::Refused);
  EXPECT_EQ(error.message,
            file.string() + " is open to other users (mode 0640); run: chmod 600 " + file.string());
}

TEST_F(KeyFile, TellsMissingFromBroken) {
  EXPECT_EQ(PrivateKey::load(folder_ / "none").error().code, ErrorCode::NotFound);
  EXPECT_EQ(PrivateKey::load(folder_).error().code, ErrorCode::Invalid);
  std::ofstream(folder_ / "big") << std::string(5000, 'x');
  std::ofstream(folder_ / "text") << "hello";
  ::chmod((folder_ / "big").c_str(), 0600);
  ::chmod((folder_ / "text").c_str(), 0600);
  EXPECT_EQ(PrivateKey::load(folder_ / "big").error().code, ErrorCode::Invalid);
  EXPECT_EQ(PrivateKey::load(folder_ / "text").error().message,
            (folder_ / "text").string() + ": no libp2p private key");
  EXPECT_FALSE(PrivateKey::generate().save(folder_ / "no" / "such").has_value());
}

// Made with the Python package cryptography: a libp2p PublicKey message of a 2048-bit key, and its PKCS#1
// v1.5 signature of "hello".
constexpr std::string_view kRsaPublicHex =
    "080012a60230820122300d06092a864886f70d01010105000382010f003082010a0282010100c04055a3136b2fd8607c"
    "f464ccac32e727aac9e0d230f307a11baf42fd949b4e21f9df801e39406211944ffeb02450866bc4d0d00fe986830543"
    "06222928b2acdadd849ee4831ce9bb228fa20408ad48067e5e553d5d50d223053a01aa5ef5203c4f215f28a3e7ce08f9"
    "92dbeeb695a2ea2e67d1516e02a3c3f9e7f7539f2cfb5eb30f7b8429d4f77fa07c91e727b47735bc55dc399ef8be6f07"
    "ad6c18771c771ed5279755af793870fa29f5375980c16d5f0f6f369b0fac09ac77badeb1e725fd1c07c53eb6e8fdd831"
    "c2c20494e64c5ebb3dc31195d7928c3d4295680f24e112ec4d322033106a971faf7a7a27ff597164d32da34c4ca7b022"
    "716b318c49bf0203010001";
constexpr std::string_view kRsaSignatureHex =
    "a7d8430f9e1444e985ee0b660143bba40d308466934ec06b5c0009ebbf85ff3ba73aea505bdd7381822688e6049fbdf0"
    "622fa1b6a1b8526dd33bad9a37a3f60b72ac15d4b6dc0b3c099d27da1204975389c5c4c73566d125ecc3d23e2d8cbff2"
    "ec344fd614b3d49aab56d8f4f71690e304b8f02901b0245acc5495e6ef1ef4ddca7234a16e19ec4a1d83024a8e905543"
    "d9f13477e211717f0dd0bd0ade4520b7c66cdd107dc5983867453f2e712f86ec4b707d2547f72417926d34b1cc382d6c"
    "1e90de5f4a812839913ffb3065f0435428b3b0e4eb4fb9a083304089e179c4e9939fa06f2f9a4931efc4121ccc6fa433"
    "6aa4bbc8da3baf4693c0a5f049c9b0a6";

TEST(Keys, VerifyRsaSignatures) {
  const auto key = PublicKey::from_protobuf(from_hex(kRsaPublicHex).value()).value();
  EXPECT_EQ(key.type(), KeyType::Rsa);
  EXPECT_EQ(key.peer_id().base58(), "QmQeuTLwzDgo7ktN84nZJySSVeNd6cewCpADjY4dhA6TLM");
  EXPECT_TRUE(key.verify("hello", from_hex(kRsaSignatureHex).value()));
  EXPECT_FALSE(key.verify("hellO", from_hex(kRsaSignatureHex).value()));
  EXPECT_EQ(PublicKey::from_peer_id(key.peer_id()).error().code, ErrorCode::Invalid);
}

TEST(Keys, RefusePublicKeysThatAreNone) {
  for (const std::string_view hex :
       {"", "0801", "08011200", "08011202aabb", "080012021234", "080212021234", "080912021234"}) {
    EXPECT_EQ(PublicKey::from_protobuf(from_hex(hex).value()).error().code, ErrorCode::Invalid) << hex;
  }
  // 1024 bits
  EXPECT_EQ(PublicKey::from_protobuf(from_hex("080012a20130819f300d06092a864886f70d010101050003818d0030818902"
                                              "818100c673b9cd5a22e99bf71b42a9da9d"
                                              "154bb55699ada64578923f589b20d3d2238513c7af50dfde510cd68ac591b8"
                                              "b2008c1d61c086d8146e9909883f5d7025"
                                              "2d968563b8ddbe69fc92e666c3414d6bbb8fef8095b8cf12554278327311ec"
                                              "129b6101cadbfdcf4489c721a25f979427"
                                              "67a9df6b2e58901a66a5636f3c5aa23bcccb0203010001")
                                         .value())
                .error()
                .message,
            "an RSA key of 1024 bits; 2048 to 8192 are accepted");
}

}  // namespace
}  // namespace hivemetal::identity
