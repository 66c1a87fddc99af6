// The real Parca that tests/stores.rs sends to. Built by tests/stores/build.sh.
module everytick/tests/stores/parca

go 1.26.0

tool github.com/parca-dev/parca/cmd/parca

require github.com/parca-dev/parca v0.28.0
