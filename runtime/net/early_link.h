// A link whose carrier hands it whole parcels, perhaps before its user has started it: they are kept until then.
#pragma once
#include <utility>
#include <vector>

#include "runtime/net/link_state.h"

namespace troupe::net {

class EarlyLink : public LinkState {
 public:
  using LinkState::LinkState;

  // The next parcel of the peer.
  void take(Parcel parcel) {
    heard();
    if (!listening_) {
      early_.push_back(std::move(parcel));
    } else {
      arrived(std::move(parcel));
    }
  }
  // Nothing more will come.
  void peer_left() {
    left_ = true;
    if (listening_ || early_.empty()) lost(failed("{} closed the link", peer().name));
  }

 protected:
  void open() override {
    if (early_.empty() && !left_) {
      listening_ = true;
      return;
    }
    loop().post([self = std::static_pointer_cast<EarlyLink>(shared_from_this())] {
      self->listening_ = true;
      auto early = std::exchange(self->early_, {});
      for (Parcel& parcel : early) {
        if (!self->arrived(std::move(parcel))) return;
      }
      if (self->left_) self->peer_left();
    });
  }

 private:
  bool listening_ = false;
  bool left_ = false;
  std::vector<Parcel> early_;
};

}  // namespace troupe::net
