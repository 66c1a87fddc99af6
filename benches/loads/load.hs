-- A map of strings that grows and is folded, again and again: allocation, laziness, collection.
module Main (main) where

import Data.List (foldl', sortBy)
import qualified Data.Map.Strict as Map

step :: Map.Map Int String -> Int -> Map.Map Int String
step all key = Map.insertWith join (key * 7919 `mod` 4001) (show key) all
  where join new old = take 20 (new ++ old)

count :: Int -> Int
count seed = sum (map length (sortBy (flip compare) (Map.elems all)))
  where all = foldl' step Map.empty [seed .. seed + 9000]

main :: IO ()
main = mapM_ (\seed -> if count seed < 0 then print seed else pure ()) [0 ..]
