// Package keys reads the public keys that tokens are verified with and the private key they are signed
// with. It is the one place that says which keys are strong enough, so that the configuration refuses at
// start exactly what the verifier would refuse later.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// The signature algorithms a token may use. Each belongs to exactly one type of key, so a token can never
// choose how a key is read (the confusion of RFC 8725, 3.1).
const (
	RS256 = "RS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

// SandboxPrefix begins the kid of every key that `kycgate sandbox` makes. Production refuses such keys:
// they lie unguarded in a data folder.
const SandboxPrefix = "sandbox-"

const (
	// MaxSize bounds a JWK set, from a file or over the network.
	MaxSize = 64 << 10

	minRSABits = 2048
	// A larger modulus buys nothing and makes every verification slow, which is a way to wear us out.
	maxRSABits = 8192
)

// Key is one public key that tokens may be verified with.
type Key struct {
	ID  string // the kid, possibly empty
	Alg string // the one algorithm it verifies
	Key crypto.PublicKey
}

// ParseSet reads a JWK set (RFC 7517). Keys that are not for us (another purpose, curve or algorithm) are
// passed over, as the RFC asks. A shared secret, private key material or a weak RSA key refuses the whole
// set: whoever publishes one has made a mistake that must be seen. No error quotes what was read.
func ParseSet(data []byte) ([]Key, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the JWK set is larger than %d KiB", MaxSize>>10)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || set.Keys == nil {
		return nil, errors.New(`is not a JWK set: a JSON object with a list "keys" is expected`)
	}
	var out []Key
	seen := make(map[string]bool)
	for i, raw := range set.Keys {
		key, usable, err := parseKey(raw)
		if err != nil {
			return nil, fmt.Errorf("keys[%d] %w", i, err)
		}
		if !usable {
			continue
		}
		if key.ID != "" && seen[key.ID] {
			return nil, fmt.Errorf("keys[%d] has the kid of an earlier key: give every key its own kid", i)
		}
		seen[key.ID] = true
		out = append(out, key)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("holds no usable key: RSA of at least %d bits (RS256), EC P-256 (ES256) or Ed25519 (EdDSA) is needed", minRSABits)
	}
	return out, nil
}

// privateMembers are the members of a JWK that only its owner may know (RFC 7518, 6.2.2, 6.3.2 and 6.4.1).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

func parseKey(raw json.RawMessage) (key Key, usable bool, err error) {
	// A map, because its keys are matched with case: a struct would read "D" as "d".
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return Key{}, false, errors.New("is not a JSON object")
	}
	kty, ok := members["kty"].(string)
	if !ok {
		return Key{}, false, errors.New(`has no "kty"`)
	}
	if kty == "oct" {
		return Key{}, false, errors.New("is a shared secret (oct): tokens are verified with public keys only")
	}
	for _, private := range privateMembers {
		if _, found := members[private]; found {
			return Key{}, false, errors.New("holds private key material: publish the public half only, and replace this key")
		}
	}
	public, alg, err := publicKey(kty, members)
	if err != nil || public == nil {
		return Key{}, false, err
	}
	// A weak key is refused whatever it says it is for, hence before the purpose is read.
	if err := check(public); err != nil {
		return Key{}, false, err
	}
	if use, found := members["use"]; found && use != "sig" {
		return Key{}, false, nil
	}
	if ops, found := members["key_ops"]; found {
		if list, _ := ops.([]any); !slices.Contains(list, any("verify")) {
			return Key{}, false, nil
		}
	}
	// RFC 9864 gives the EdDSA of one curve a name of its own.
	if declared, found := members["alg"]; found && declared != alg && (alg != EdDSA || declared != "Ed25519") {
		return Key{}, false, nil
	}
	id, isText := members["kid"].(string)
	if _, found := members["kid"]; found && !isText {
		return Key{}, false, errors.New(`has a "kid" that is not a string`)
	}
	return Key{ID: id, Alg: alg, Key: public}, true, nil
}

// publicKey builds the key from its members. A type or curve that we do not verify with is a nil key.
func publicKey(kty string, members map[string]any) (crypto.PublicKey, string, error) {
	octets := func(name string) ([]byte, error) {
		text, _ := members[name].(string)
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(b) == 0 {
			return nil, fmt.Errorf("has no readable %q", name)
		}
		return b, nil
	}
	switch crv := members["crv"]; {
	case kty == "RSA":
		n, err := octets("n")
		if err != nil {
			return nil, "", err
		}
		e, err := octets("e")
		if err != nil {
			return nil, "", err
		}
		exponent := new(big.Int).SetBytes(e)
		if exponent.BitLen() > 31 {
			return nil, "", errors.New("is not a well-formed RSA key")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, RS256, nil
	case kty == "EC" && crv == "P-256":
		x, err := octets("x")
		if err != nil {
			return nil, "", err
		}
		y, err := octets("y")
		if err != nil {
			return nil, "", err
		}
		// The parser refuses coordinates of another length and points that are not on the curve, with
		// which a verification would mean nothing.
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if err != nil {
			return nil, "", errors.New("is not a point on the curve P-256")
		}
		return key, ES256, nil
	case kty == "OKP" && crv == "Ed25519":
		x, err := octets("x")
		if err != nil {
			return nil, "", err
		}
		return ed25519.PublicKey(x), EdDSA, nil
	}
	return nil, "", nil
}

// ParsePrivate reads a private key from PEM: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC), not encrypted.
// It returns the key, which is an *rsa.PrivateKey, *ecdsa.PrivateKey or ed25519.PrivateKey, and the
// algorithm it signs with. No error quotes what was read.
func ParsePrivate(data []byte) (key crypto.Signer, alg string, err error) {
	block, rest := pem.Decode(data)
	// openssl ecparam writes the curve as a block of its own before the key.
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, "", errors.New("is not a PEM file")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, "", errors.New("holds more than one PEM block: keep the private key alone in it")
	}
	var parsed any
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, "", errors.New("is encrypted: store it decrypted, readable by this user alone")
		}
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, "", errors.New("is encrypted: store it decrypted, readable by this user alone")
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		return nil, "", errors.New("holds a public key: the private key is needed")
	default:
		return nil, "", errors.New("holds no private key")
	}
	if err != nil {
		return nil, "", errors.New("holds a private key that cannot be read")
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, "", errUnsupported
	}
	if err := check(signer.Public()); err != nil {
		return nil, "", err
	}
	alg, err = algOf(signer.Public())
	return signer, alg, err
}

var errUnsupported = errors.New("is of an unsupported type: RSA, EC P-256 or Ed25519 is needed")

// check refuses keys that are too weak or not well formed. EC keys are checked by the parsers.
func check(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits {
			return fmt.Errorf("is an RSA key of %d bits: at least %d are needed", bits, minRSABits)
		} else if bits > maxRSABits {
			return fmt.Errorf("is an RSA key of more than %d bits", maxRSABits)
		}
		if k.E < 3 || k.E%2 == 0 || k.N.Bit(0) == 0 {
			return errors.New("is not a well-formed RSA key")
		}
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return errors.New("is not a well-formed Ed25519 key")
		}
	}
	return nil
}

func algOf(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return RS256, nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return ES256, nil
		}
	case ed25519.PublicKey:
		return EdDSA, nil
	}
	return "", errUnsupported
}

// Equal reports whether two public keys are the same key.
func Equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Thumbprint names a public key by what it is (RFC 7638): SHA-256 over its required members, in order.
func Thumbprint(public crypto.PublicKey) (string, error) {
	jwk, err := members(public)
	if err != nil {
		return "", err
	}
	// json.Marshal sorts the keys of a map and adds no blanks, which is the form the RFC hashes.
	canonical, err := json.Marshal(jwk)
	if err != nil {
		return "", fmt.Errorf("thumbprint: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// MarshalSet writes a JWK set that holds one public key for verifying signatures.
func MarshalSet(kid string, public crypto.PublicKey) ([]byte, error) {
	alg, err := algOf(public)
	if err != nil {
		return nil, err
	}
	jwk, err := members(public)
	if err != nil {
		return nil, err
	}
	jwk["kid"], jwk["alg"], jwk["use"] = kid, alg, "sig"
	return json.MarshalIndent(map[string]any{"keys": []any{jwk}}, "", "  ")
}

// members gives the required members of a public JWK.
func members(public crypto.PublicKey) (map[string]string, error) {
	encode := base64.RawURLEncoding.EncodeToString
	switch k := public.(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "n": encode(k.N.Bytes()), "e": encode(big.NewInt(int64(k.E)).Bytes())}, nil
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil || k.Curve != elliptic.P256() {
			return nil, errUnsupported
		}
		half := (len(point) - 1) / 2
		return map[string]string{"kty": "EC", "crv": "P-256", "x": encode(point[1 : 1+half]), "y": encode(point[1+half:])}, nil
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": encode(k)}, nil
	}
	return nil, errUnsupported
}

// Published reports whether the private half of a public key is printed in a public document, so that
// anyone can sign with it. Tutorials paste these keys, and so do people in a hurry.
func Published(public crypto.PublicKey) bool {
	thumbprint, err := Thumbprint(public)
	return err == nil && slices.Contains(published, thumbprint)
}

// published are the thumbprints of keys whose private half anyone can read.
var published = []string{
	"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", // RFC 7517, A.1 (RSA)
	"cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s", // RFC 7517, A.1 (EC)
	"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", // RFC 7515, A.3 (EC)
	"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", // RFC 8037, A.1 (Ed25519)
	"oGDmHqCJ7yzMkWEkrlZVHkvrHIyQwtlDmeq5ForUHeY", // the debugger at jwt.io (RSA)
	"19J8y7Zprt2-QKLjF2I5pVk0OELX6cY2AfaAv1LC_w8", // the debugger at jwt.io (EC)
	"UVSYOAYMLo8sxJkSZl2DZDHA6sP9UlyYSl2moTB7i9Q", // golang-jwt's test folder (RSA)
	"2U1MPNC1iWSC_8uvLByexKFXziTWPQCeeUbuuvzN4JQ", // golang-jwt's test folder (EC)
	"amdF9dbIu4yFkPrxCb-yyHwaBteNzPn5dA4VswAO2Qs", // golang-jwt's test folder (Ed25519)
}
