# What the tests of runtime/wire say to each other.
@0xd2b6a1f0c3e94a57;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("troupe::wire::schema");

struct Sample {
  name @0 :Text;
  steps @1 :List(UInt64);
  nested @2 :Sample;
}
