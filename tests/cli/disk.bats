# A disk that fills up while a run writes.
load common

setup() {
    cd "$BATS_TEST_TMPDIR"
    write_text text.txt 400
    mkdir disk
    mount -t tmpfs -o size=4m none disk 2>/dev/null || skip "this user or machine cannot mount a small disk"
}

teardown() {
    umount "$BATS_TEST_TMPDIR/disk" 2>/dev/null || true
}

@test "a full disk ends the run and leaves the last checkpoint as it was" {
    train disk/run --steps 10 --schedule constant >/dev/null
    md5sum disk/run/*.safetensors >sums
    dd if=/dev/zero of=disk/filler bs=4k 2>/dev/null || true
    run train disk/run --resume --steps 20
    [ "$status" -eq 1 ]
    [[ "$output" == *"disk/run"* ]]
    md5sum --check --quiet sums
    rm disk/filler
    train disk/run --resume --steps 20
    train whole --steps 20 --schedule constant >/dev/null
    diff <(losses disk/run) <(losses whole)
    [ "$(find disk/run -type f | wc -l)" -eq 5 ]
}

@test "a session that does not fit leaves the old one as it was" {
    train model --steps 2 >/dev/null
    "$BRT" generate model --prompt x -n 5 --session disk/session --quiet >/dev/null
    cp disk/session before
    dd if=/dev/zero of=disk/filler bs=4k 2>/dev/null || true
    run --separate-stderr "$BRT" generate model -n 5 --session disk/session --quiet
    [ "$status" -eq 1 ]
    cmp before disk/session
}
