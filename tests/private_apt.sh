# Sourced by scripts that need a package of another Debian suite. They define `fail` and $work, a
# directory.

# Runs apt-get with one suite and separate state, so that the machine's own state stays unchanged.
private_apt() { # SUITE ARGUMENTS...
	local suite=$1 archive
	shift
	archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
	[ -n "$archive" ] || fail "apt knows no Debian archive: run 'apt-get update', or see /etc/apt/sources.list"
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main" >"$work/sources.list"
	(cd "$work" && apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" \
		-o Acquire::Languages=none "$@") >&2
}
