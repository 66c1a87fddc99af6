use std::os::unix::fs::FileExt;
fn main(){ for f in std::env::args().skip(1){ let file=std::fs::File::open(&f).unwrap(); let at=|o:u64,b:&mut [u8]| file.read_exact_at(b,o).is_ok();
 for _ in 0..3 { let t=std::time::Instant::now(); let p=unwind::Pieces::of(&at); let a=t.elapsed(); let Some(p)=p else {println!("none {f}");break}; let t=std::time::Instant::now(); let mut n=0; let mut i=0; while i<400 { if p.block(i).is_some_and(|b|!b.is_empty()){n+=1} i+=1 } println!("{f} open {a:?} blocks {n} each {:?} bytes {}", t.elapsed()/n.max(1), p.bytes()); } } }
